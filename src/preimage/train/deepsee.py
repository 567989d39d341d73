"""Train DeepSEE (Bühler et al., 2020, section 3.4): hinge loss, feature matching and perceptual loss, end to end with its style encoder.

Ours beside it: the projection inside the network (`project` of its shape), and heads on fixed features as a second discriminator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.degrade.linear import LinearOperator
from preimage.errors import WeightsError
from preimage.invert.deepsee_answers import KERNEL, answer, downscaling, mask_of, spread_by, varied
from preimage.nets.deepsee import DeepSEENetwork
from preimage.semantics.labels import coloured
from preimage.train import losses
from preimage.train.data import eight_bit, held_back, plain_source
from preimage.train.deepsee_data import Companions, Faces, Shown, load_faces, paired, stream
from preimage.train.deepsee_networks import Judges, at_once, build_run, set_shared_rates, settle
from preimage.train.deepsee_settings import (
    VARIANTS,
    Recipe,
    References,
    drawn_there,
    found_there,
    noise,
    rates,
    shape_of,
    source,
    word,
)
from preimage.train.loop import Run, average_decay, every, update_average
from preimage.train.start import start_accelerator, start_run
from preimage.weight_files import save_prior
from preimage.weights import load_network

__all__ = ["Recipe", "References", "describe", "train"]

SHOWN = 8  # faces in a grid
PATCH = 4  # side of the patches whose distances the energy score counts
MAY_CHANGE = (
    "images", "snapshot", "log", "data", "masks", "segmenter", "out", "lr_steps", "precision", "feature_weights", "init",
    "found_share", "drawn_share", "small_share", "spread", "references",
)  # fmt: skip


def train(recipe: Recipe, resume: str = "auto", stop_after: float | None = None) -> Path:
    """Train, or go on training, and export the averaged network.

    Args:
        recipe: settings.
        resume: "auto" continues the run in `recipe.out`; "never" insists on a new one.
        stop_after: seconds after which to save and return early; the same call continues.

    Returns:
        The exported network, `<out>/deepsee.safetensors` (half precision).
    """
    accelerator, n = start_accelerator(recipe.batch)
    device = accelerator.device
    faces = load_faces(recipe, _segmenter(recipe, device), accelerator.is_main_process)
    where = held_back(len(faces), recipe.hold)
    faces, held = faces.only(~where), faces.only(where) if recipe.hold else faces
    players = start_run(accelerator, recipe, build_run, resume, MAY_CHANGE, calibrate=faces.pictures)
    run, g, d, opt_g, opt_d, average = players.parts
    companions = Companions(faces.persons, recipe.references.person, recipe.references.anyone, recipe.seed)
    process, processes = accelerator.process_index, accelerator.num_processes
    shown = stream(faces, n, companions, recipe.seed, run.progress.images, process, processes, device)
    operator = downscaling(g.config.resolution, g.config.lr_size).to(device)
    path = run.folder / "deepsee.safetensors"
    if recipe.drawn_share:
        measure(g, average, faces, recipe)

    while run.progress.images < recipe.images:
        batch = next(shown)
        set_shared_rates(opt_g, opt_d, rates(recipe, run.progress.images))
        share = word(recipe, run.progress.images)
        judged = run.progress.images >= recipe.adversary_start[0]
        regions = batch.labels if batch.found is None or not found_there(recipe, run.progress.images) else batch.found
        mask, photo = mask_of(g, regions), eight_bit(operator(batch.truth))
        with torch.autocast(**players.autocast(recipe.precision)):
            style = styles(g, batch, photo, mask, operator, recipe, run.progress.images)
            if twice := style is not None and drawn_there(recipe, run.progress.images):
                style, photo, mask = drawn_twice(g, style), photo.repeat(2, 1, 1, 1), mask.repeat(2, 1, 1, 1)
            made, before = answer(g, operator, photo, mask, style)
            raw = d.features(made)
            with torch.no_grad():
                raw_truth = d.features(batch.truth)

            if judged:  # the discriminators learn first
                value_d = judge(d, batch.truth, made.detach(), mask, raw_truth, [x.detach() for x in raw], recipe)
                opt_d.zero_grad(set_to_none=True)
                accelerator.backward(value_d)
                players.update(d, opt_d)
                run.add(loss_d=value_d.detach())

            learned = [p for p in d.parameters() if p.requires_grad]
            for p in learned:
                p.requires_grad_(False)
            value = score(made, before, batch.truth, photo, operator, raw, raw_truth, d, recipe, run)
            if judged and share:
                value = value + share * persuade(d, None if twice else batch.truth, made, mask, raw, recipe, run)
            for p in learned:
                p.requires_grad_(True)
        opt_g.zero_grad(set_to_none=True)
        accelerator.backward(value)
        players.update(g, opt_g)

        begun = run.progress.images
        run.progress.images += recipe.batch
        update_average(average, g, average_decay(recipe.batch, run.progress.images, recipe.ema_half_life))
        done = run.progress.images >= recipe.images
        stop = (done or every(recipe.log, begun, run.progress.images)) and run.report(stop_after)
        if stop or done or every(recipe.snapshot, begun, run.progress.images):
            measure(g, average, faces, recipe)
            run.snapshot(grid(average, held, at_once(recipe)), columns=7, cell=max(96, g.resolution))
            path = export(average, recipe, run)
        if stop:
            break
    return path


def styles(
    g: DeepSEENetwork, batch: Shown, photo: Tensor, mask: Tensor, operator: LinearOperator, recipe: Recipe, images: int
) -> Tensor | None:
    """The styles of a step, noise included; None of a network without."""
    kind = source(recipe, images)
    if kind == "none":
        return None
    if kind in ("own-small", "own-sharp"):
        found = g.encode(photo if kind == "own-small" else batch.truth, mask, kind == "own-sharp")
    else:
        picture = batch.reference if kind == "reference-sharp" else eight_bit(operator(batch.reference))
        found = g.encode(picture, mask_of(g, batch.reference_labels), kind == "reference-sharp")
    delta = noise(recipe, images)
    return g.style_noise(found, delta) if delta and found is not None else found


def measure(g: DeepSEENetwork, average: DeepSEENetwork, faces: Faces, recipe: Recipe) -> None:
    """`settle` the averaged network; its Gaussian of styles is what steps draw from, too."""
    settle(average, faces, recipe)
    if g.config.drawn:
        g.style_mean.copy_(average.style_mean)
        g.style_root.copy_(average.style_root)


def drawn_twice(network: DeepSEENetwork, style: Tensor) -> Tensor:
    """Two styles for each of (n, regions, d), drawn as seeds draw them: (2n, regions, d), the first ones and then the second ones.

    Args:
        network: with the Gaussian that is drawn from.
        style: of photos.
    """
    base, c = style.repeat(2, 1, 1), network.config
    return spread_by(network, base, torch.randn(len(base), c.drawn, device=base.device))


def judge(
    d: Judges,
    truth: Tensor,
    made: Tensor,
    mask: Tensor,
    raw_truth: Sequence[Tensor],
    raw: Sequence[Tensor],
    recipe: Recipe,
) -> Tensor:
    """The hinge losses of the discriminators; true and imagined pictures, of which there may be more, go through as one batch."""
    n, value = len(truth), truth.new_zeros(())
    if d.patch is not None:
        found = [scale[-1].float() for scale in d.patch(torch.cat([truth, made]), torch.cat([mask[:n], mask]))]
        value = value + losses.hinge_d([s[:n] for s in found], [s[n:] for s in found]) / len(found)
    if d.heard:
        value = value + losses.hinge_d(
            d.projected(d.seen(list(raw_truth), truth)), d.projected(d.seen(list(raw), made))
        )
    return value


def persuade(
    d: Judges, truth: Tensor | None, made: Tensor, mask: Tensor, raw: list[Tensor], recipe: Recipe, run: Run
) -> Tensor:
    """The discriminators' word to the generator, and what it must match of the patch discriminator's features, where there is one truth."""
    n, value = 0 if truth is None else len(truth), made.new_zeros(())
    if d.patch is not None:
        found = d.patch(made, mask) if truth is None else d.patch(torch.cat([truth, made]), torch.cat([mask, mask]))
        gan = losses.hinge_g([scale[-1][n:].float() for scale in found]) / len(found)
        value = value + recipe.adversary * gan
        run.add(gan=gan.detach())
        if n:
            apart = [(x[n:].float() - x[:n].detach().float()).abs().mean() for scale in found for x in scale[:-1]]
            match = torch.stack(apart).sum() / len(found)
            value = value + recipe.matching * match
            run.add(matching=match.detach())
    if d.heard:
        projected = losses.hinge_g(d.projected(d.seen(raw, made)))
        value = value + recipe.projected_adversary * projected
        run.add(projected=projected.detach())
    return value


def score(
    made: Tensor,
    before: Tensor,
    truth: Tensor,
    photo: Tensor,
    operator: LinearOperator,
    raw: Sequence[Tensor],
    raw_truth: Sequence[Tensor],
    d: Judges,
    recipe: Recipe,
    run: Run,
) -> Tensor:
    """Everything that pictures are held to but the discriminators' word; two answers to each photo by their energy score."""
    n, count = len(truth), len(raw)
    twice, half = len(made) > n, recipe.spread / 2
    spreads: list[Any] = [getattr(d.projected.mix, f"spread{i}") * count for i in range(count)]
    weights = recipe.perceptual_weights or [1 / s for s in spreads]
    if twice:
        scores = [losses.energy_score(a[:n], a[n:], b) for a, b in zip(raw, raw_truth, strict=True)]
        roots = [a.shape[1] ** 0.5 for a in raw]  # the norm over channels as a mean
        far, near = (sum(w * s[k] / r for w, s, r in zip(weights, scores, roots, strict=True)) for k in (0, 1))
        patches = [F.pixel_unshuffle(x.float(), PATCH) for x in (made[:n], made[n:], truth)]
        pixel_far, pixel_near = (x / patches[0].shape[1] ** 0.5 for x in losses.energy_score(*patches))
        perceptual, l1 = far - half * near, pixel_far - half * pixel_near
        run.add(far=far.detach(), ratio_features=near.detach() / far.detach(), pixel_far=pixel_far.detach())
    else:
        parts = [(a.float() - b.float()).abs().mean() for a, b in zip(raw, raw_truth, strict=True)]
        perceptual, l1 = sum(w * x for w, x in zip(weights, parts, strict=True)), (made - truth).abs().mean()
        run.add(perceptual=perceptual.detach(), l1=l1.detach())
    miss = (255 * operator.residual(before, photo)).square().mean()
    outside = F.relu((made - 0.5).abs() - 0.5).square().mean()
    run.add(missed=miss.detach().sqrt())
    value = recipe.perceptual * perceptual + recipe.pixels * l1
    return value + recipe.consistency * miss / 255**2 + recipe.outside * outside


@torch.no_grad()
def grid(model: DeepSEENetwork, faces: Faces, batch: int = SHOWN) -> Tensor:
    """Rows of photo, regions, answer of the mean style, two answers of drawn ones, the answer of the face's own styles, and the face.

    Args:
        model: in eval mode.
        faces: to show some of, evenly spaced; all where there are few.
        batch: at a time.
    """
    chosen = np.linspace(0, len(faces) - 1, min(SHOWN, len(faces))).round().astype(int).tolist()
    return torch.cat([_rows(model, faces, chosen[i : i + batch]) for i in range(0, len(chosen), batch)])


def _rows(model: DeepSEENetwork, faces: Faces, chosen: Sequence[int]) -> Tensor:
    c, device = model.config, next(model.parameters()).device
    operator = downscaling(c.resolution, c.lr_size).to(device)
    shown = faces if faces.found is None else replace(faces, labels=faces.found)  # as people will have them
    truth, labels = (x.to(device) for x in paired(shown, [(i, False) for i in chosen]))
    photo, mask = eight_bit(operator(truth)), mask_of(model, labels)
    small, sharp = model.encode(photo, mask, False), model.encode(truth, mask, True)
    usual = small if c.small_styles else sharp
    columns = [F.interpolate(photo, truth.shape[-2:], mode="nearest"), coloured(labels)]
    for seed, spread in ((0, 0.0), (0, 1.0), (1, 1.0)):
        drawn = None if usual is None else varied(model, usual, [seed] * len(truth), spread)
        columns.append(answer(model, operator, photo, mask, drawn)[0])
    columns += [answer(model, operator, photo, mask, sharp if c.sharp_styles else usual)[0], truth]
    return torch.stack(columns, 1).flatten(0, 1).clamp(0, 1)


def export(average: DeepSEENetwork, recipe: Recipe, run: Run) -> Path:
    """Write the averaged network as a self-describing half-precision file; of paths it keeps the names."""
    path = run.folder / "deepsee.safetensors"
    if run.accelerator.is_main_process:
        names = [plain_source(each) for each in recipe.data]
        plain = replace(
            recipe,
            out="",
            data=names,
            masks=[Path(each).name for each in recipe.masks],
            segmenter=Path(recipe.segmenter).name,
            feature_weights=Path(recipe.feature_weights).name,
            init=Path(recipe.init).name,
        )
        trained: dict[str, Any] = {"images_seen": run.progress.images, "recipe": asdict(plain), "data": names}
        save_prior(path, average, trained, degradations=(KERNEL,), looked_through=(recipe.features,))
    run.accelerator.wait_for_everyone()
    return path


def describe(recipe: Recipe) -> str:
    """Sizes of the networks that the recipe would train, without needing its data."""
    with torch.device("meta"):
        g = DeepSEENetwork(shape_of(recipe))
    parts: dict[str, nn.Module] = {"generator": g.generator} | (
        {} if g.encoder is None else {"style encoder": g.encoder}
    )
    counts = [f"{name}: {sum(p.numel() for p in part.parameters()):,} parameters" for name, part in parts.items()]
    v = VARIANTS[recipe.variant]
    told = [word for word, there in (("regions", v.semantics), ("styles", v.styled)) if there] or ["the photo alone"]
    return "\n".join([*counts, f"{recipe.variant}: told {' and '.join(told)}"])


def _segmenter(recipe: Recipe, device: torch.device) -> nn.Module | None:
    if recipe.masks and not recipe.found_share:
        return None
    try:
        return load_network(recipe.segmenter or None, "segmenter", device)
    except WeightsError as error:
        raise WeightsError(f"segmenter: {error} Or name maps (`masks:`).") from None
