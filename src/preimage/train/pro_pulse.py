"""Train Pro-PULSE's encoders (Zhou et al., TIP 2022, sections III-D and III-E): first E_W, then E_W+ stage by stage.

What they write becomes pictures of all sides by a frozen prior; each of them is to shrink to the photo (equation 6), the largest to
look like the same person (equation 7) and like a face (equations 8 and 9).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.degrade.linear import LinearOperator, make_operator
from preimage.generate.prior import told_maps
from preimage.invert.encoded import noise_maps
from preimage.nets.feature_network import FeatureNetwork
from preimage.nets.layers import channels_last
from preimage.nets.pro_pulse import ProPulseConfig
from preimage.train import losses
from preimage.train.data import Pictures, eight_bit, held_back, load_pictures, plain_source, to_tensor
from preimage.train.loop import Run, evaluating, every, set_rates, stepped, update_average
from preimage.train.pro_pulse_networks import build_run, check_prior, encoder_of, let_learn, load_identity, prior_of
from preimage.train.pro_pulse_networks import describe as describe
from preimage.train.pro_pulse_settings import LOSSES, Critic, looked_through, stage_of
from preimage.train.pro_pulse_settings import Recipe as Recipe
from preimage.train.start import start_accelerator, start_run
from preimage.weight_files import save_prior
from preimage.weights import load_prior

SHOWN = 8  # faces in a grid
SEEN = 128  # least side of pictures for EfficientNet
MAY_CHANGE = ("images", "lr_steps", "snapshot", "log", "data", "out", "precision", "identity_weights", "prior", "init")


def outputs(prior: Any, latents: Tensor, noise: Sequence[Tensor], sides: bool, largest: int = 0) -> dict[int, Tensor]:
    """Pictures of a prior by side: all there are, those up to `largest` (0: all), or the final one alone."""
    if hasattr(prior, "side_outputs") and (sides or largest):
        found: dict[int, Tensor] = prior.side_outputs(latents, noise, **({"largest": largest} if largest else {}))
        return found
    return {prior.resolution: prior.synthesize(latents, noise)}


def reconstruction(
    found: Mapping[int, Tensor], photos: Tensor, operators: Mapping[int, LinearOperator], norm: str
) -> Tensor:
    """Equation 6: how far pictures of every side are from the photos when they are shrunk, averaged; smaller ones say nothing."""
    parts, side = [], photos.shape[-1]
    for size, pictures in found.items():
        if size < side:
            continue
        misses = ((operators[size](pictures.float()) if size > side else pictures.float()) - photos).flatten(1).square()
        apart = misses.sum(1) if norm == "l2" else misses.mean(1)
        parts.append((apart if norm == "mse" else (apart + 1e-12).sqrt()).mean())
    return torch.stack(parts).mean()


def identity(network: FeatureNetwork, pictures: Tensor, faces: Tensor) -> Tensor:
    """Equation 7: one minus the cosine of both embeddings, averaged."""

    def embedded(x: Tensor) -> Tensor:
        if "stage6" in network.taps and x.shape[-1] < SEEN:  # EfficientNet sees little of small pictures
            x = F.interpolate(x, (SEEN, SEEN), mode="bilinear", align_corners=False)
        return network.pooled(x)

    with torch.no_grad():
        wanted = embedded(faces)
    return (1 - F.cosine_similarity(embedded(pictures).float(), wanted.float())).mean()


def control(c: Critic, d: Any, real: Tensor, fake: Tensor) -> Tensor:
    """The penalty on the critic's slopes."""
    if c.control == "r1":
        at = real.detach().requires_grad_(True)
        return c.weight / 2 * losses.r1_penalty(at, d(d.project(at)))
    at = losses.between(real, fake)
    return c.weight * losses.gradient_penalty(at, d(d.project(at)))


def train(recipe: Recipe, resume: str = "auto", stop_after: float | None = None) -> Path:
    """Train, or go on training, and export the averaged encoder.

    Args:
        recipe: settings.
        resume: "auto" continues the run in `recipe.out`; "never" insists on a new one.
        stop_after: seconds after which to save and return early; the same call continues.

    Returns:
        The exported network, `<out>/encoder.safetensors` (half precision).
    """
    accelerator, n = start_accelerator(recipe.batch)
    device, shape = accelerator.device, recipe.encoder
    prior: Any = load_prior(recipe.prior, device)
    check_prior(recipe, prior)
    operators = {
        side: make_operator(recipe.degradation, hr_size=side, lr_size=shape.lr_size)
        for side in (2**k for k in range(2, shape.hr_size.bit_length()))
        if side > shape.lr_size
    }
    network = load_identity(recipe).to(device) if recipe.identity else None
    for module in (prior, network):
        if isinstance(module, nn.Module):
            channels_last(module)
    pictures = load_pictures(recipe.data, shape.hr_size, progress=accelerator.is_main_process)
    where = held_back(len(pictures), recipe.hold)
    pictures, held = pictures[~where], pictures[where]
    calibrate = pictures if recipe.adversary and recipe.critic.kind == "projected" else None
    players = start_run(accelerator, recipe, partial(build_run, prior=prior), resume, MAY_CHANGE, calibrate=calibrate)
    run, g, d, opt_g, opt_d, average = players.parts
    encoder, stream, autocast = (
        encoder_of(g),
        players.stream(pictures, n, recipe.seed),
        players.autocast(recipe.precision),
    )
    source = prior_of(g, prior)
    loss_d, loss_g = LOSSES[recipe.critic.loss]
    path, stage = run.folder / "encoder.safetensors", -1

    while run.progress.images < recipe.images:
        set_rates(
            (opt_g,) if opt_d is None else (opt_g, opt_d),
            stepped(recipe.lr, recipe.lr_critic, recipe.lr_steps, run.progress.images)[: 1 if opt_d is None else 2],
        )
        if stage != (stage := stage_of(recipe, run.progress.images)):
            let_learn(recipe, encoder, stage)
        largest = recipe.largest if run.progress.images < recipe.largest_images else 0
        hr = next(stream).contiguous(memory_format=torch.channels_last)
        photos = eight_bit(operators[shape.hr_size](hr))
        with torch.autocast(**autocast):
            offsets = encoder.offsets(photos)
            latents = encoder.place(offsets)
            found = outputs(source, latents, random_noise(source, n, shape), recipe.sides, largest)
        pull = offsets.square().mean()
        value = recipe.pull * pull
        if recipe.rec:
            rec = reconstruction(found, photos, operators, recipe.norm)
            value = value + recipe.rec * rec
            run.add(rec=rec.detach())

        final = found[shape.hr_size].float() if not largest else None
        if final is not None and network is not None:
            with torch.autocast(**autocast):
                unlike = identity(network, final, hr)
            value = value + recipe.identity * unlike
            run.add(identity=unlike.detach())
        if final is not None and d is not None:
            imagined = d.project(final)
            with torch.autocast(**autocast):
                real, fake = d(d.project(hr)), d([x.detach() for x in imagined])
                value_d = loss_d(real, fake)
            opt_d.zero_grad(set_to_none=True)
            accelerator.backward(value_d)
            if recipe.critic.control != "none" and run.progress.images // recipe.batch % recipe.critic.every == 0:
                penalty = control(recipe.critic, d, hr, final)
                accelerator.backward(recipe.critic.every * penalty)
                run.add(penalty=penalty.detach())
            players.update(d, opt_d)
            d.requires_grad_(False)
            with torch.autocast(**autocast):
                gan = loss_g(d(imagined))
            d.requires_grad_(True)
            value = value + recipe.adversary * gan
            run.add(loss_d=value_d.detach(), gan=gan.detach())
        opt_g.zero_grad(set_to_none=True)
        accelerator.backward(value)
        players.update(g, opt_g)

        before = run.progress.images
        run.progress.images += recipe.batch
        steps = run.progress.images // recipe.batch
        update_average(average, g, min(recipe.ema, (1 + steps) / (10 + steps)))  # short at first: it begins untrained
        run.add(loss=value.detach(), offset=pull.detach().sqrt(), stage=stage)
        ended = run.progress.images >= recipe.images
        due = ended or every(recipe.log, before, run.progress.images)
        if due:
            run.add(psnr_held=held_psnr(recipe, average, prior, held, operators[shape.hr_size]))
        stop = due and run.report(stop_after)
        if stop or ended or every(recipe.snapshot, before, run.progress.images):
            run.snapshot(grid(recipe, average, prior, held, operators[shape.hr_size]), SHOWN, cell=128)
            path = export(recipe, average, prior, run)
        if stop:
            break
    return path


def random_noise(prior: Any, n: int, shape: ProPulseConfig) -> list[Tensor]:
    """Noise maps for n pictures: the coarse ones silent, and those that are no noise; the others random."""
    device, told = prior.mean_latent.device, told_maps(prior)
    return [
        torch.zeros(n, 1, s, s, device=device)
        if i < shape.silent or i in told
        else torch.randn(n, 1, s, s, device=device)
        for i, s in enumerate(prior.noise_sizes)
    ]


def answers(
    recipe: Recipe, average: nn.Module, prior: Any, held: Pictures, operator: LinearOperator
) -> tuple[Tensor, Tensor, Tensor]:
    """Faces that are held back, their photos, and the encoder's pictures of them, always by the same noise."""
    encoder, source = encoder_of(average), prior_of(average, prior)
    faces = to_tensor(np.ascontiguousarray(held), prior.mean_latent.device)
    photos, made = eight_bit(operator(faces)), []
    with evaluating(average):
        for i, part in enumerate(photos.split(recipe.batch)):
            seeds = range(i * recipe.batch, i * recipe.batch + len(part))
            made.append(source.synthesize(encoder(part), noise_maps(source, seeds, recipe.encoder.silent)))
    return faces, photos, torch.cat(made)


def held_psnr(recipe: Recipe, average: nn.Module, prior: Any, held: Pictures, operator: LinearOperator) -> float:
    """Mean PSNR in dB between photos of held faces and the encoder's pictures, shrunk and not yet made exact."""
    _, photos, made = answers(recipe, average, prior, held, operator)
    return float(-10 * (operator(made) - photos).square().mean((1, 2, 3)).clamp_min(1e-10).log10().mean())


def grid(recipe: Recipe, average: nn.Module, prior: Any, held: Pictures, operator: LinearOperator) -> Tensor:
    """Rows of `SHOWN`: photos, the encoder's pictures, the faces."""
    chosen = np.linspace(0, len(held) - 1, SHOWN).round().astype(int)
    faces, photos, made = answers(recipe, average, prior, held[chosen], operator)
    return torch.cat([F.interpolate(photos, faces.shape[-2:], mode="nearest"), made, faces]).clamp(0, 1)


def export(recipe: Recipe, average: nn.Module, prior: Any, run: Run) -> Path:
    """Write the averaged encoder, bound to its prior, as a self-describing half-precision file; of paths it keeps the names."""
    path = run.folder / "encoder.safetensors"
    if run.accelerator.is_main_process:
        data, identity_weights = [plain_source(s) for s in recipe.data], Path(recipe.identity_weights).name
        critic = replace(recipe.critic, feature_weights=Path(recipe.critic.feature_weights).name)
        about = asdict(
            replace(
                recipe,
                out="",
                data=data,
                prior=Path(recipe.prior).name,
                init=Path(recipe.init).name,
                identity_weights=identity_weights,
                critic=critic,
            )
        )
        trained: dict[str, Any] = {"images_seen": run.progress.images, "recipe": about, "data": data}
        seen = looked_through(recipe, run.progress.images)
        if recipe.end_to_end:
            prior = (
                copy.deepcopy(prior_of(average, prior)).half().float()
            )  # as it will be read, so that the hash is the same
            prior.name = f"{recipe.name}-prior"
            save_prior(run.folder / "prior.safetensors", prior, trained, looked_through=seen)
        save_prior(
            path, encoder_of(average), trained, degradations=(recipe.degradation,), looked_through=seen, bound_to=prior
        )
    run.accelerator.wait_for_everyone()
    return path
