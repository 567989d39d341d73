"""Train the learned degradation of SR-NAM (Lioutas, 2019, section 3.2): unpaired, sharp faces against natively small ones.

Equation 1: alpha * (gamma * L1 + delta * VGG) + beta * GAN. The pixel terms (equations 3 to 5) hold the enlarged small face
against its sharp one and keep the content; the adversarial term makes it look like a natively small one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.degrade.degradation_gan import DegradationGAN
from preimage.nets.features import FEATURE_NETWORKS, FeatureNetwork
from preimage.nets.layers import channels_last
from preimage.nets.residual import ResidualDiscriminator
from preimage.seeds import generator
from preimage.train import losses
from preimage.train.augment import augment
from preimage.train.data import Pictures, batches, load_pictures, plain_source, to_tensor
from preimage.train.degradation_gan_settings import Discriminator as Discriminator
from preimage.train.degradation_gan_settings import Recipe as Recipe
from preimage.train.loop import Run, evaluating, every, set_rates, stepped, update_average
from preimage.train.small_faces import count_by_side, small_faces
from preimage.train.start import start_accelerator, start_run
from preimage.weight_files import save_prior

SHOWN = 8  # faces in a grid
RECALIBRATION = (16, 64)  # batches, and pictures of each, that the statistics of the exported network are of


def build_run(
    recipe: Recipe,
) -> tuple[DegradationGAN, ResidualDiscriminator, torch.optim.Optimizer, torch.optim.Optimizer]:
    """Generator, discriminator and their optimisers, as a run starts with them."""
    g = DegradationGAN(recipe.generator, recipe.name)
    d = ResidualDiscriminator(recipe.generator.lr_size, recipe.discriminator.widths, recipe.discriminator.spectral)
    opt_g = torch.optim.Adam(g.parameters(), lr=recipe.lr_g, betas=recipe.betas)
    opt_d = torch.optim.Adam(d.parameters(), lr=recipe.lr_d, betas=recipe.betas)
    return g, d, opt_g, opt_d


def enlarge(pictures: Tensor, side: int) -> Tensor:
    """F of equations 4 and 5: bicubic enlargement to `side`."""
    return F.interpolate(pictures, (side, side), mode="bicubic", align_corners=False)


def perceptual(network: FeatureNetwork, pictures: Tensor, reference: Tensor) -> Tensor:
    """Equation 5: mean absolute difference of the features, added over the blocks of the network."""
    with torch.no_grad():
        wanted = network(reference)
    found = network(pictures)
    return torch.stack([F.l1_loss(a.float(), b.float()) for a, b in zip(found, wanted, strict=True)]).sum()


@torch.no_grad()
def recalibrate(model: DegradationGAN, pictures: Pictures, seed: int) -> None:
    """Give the averaged weights batch-norm statistics of their own, over a fixed choice of sharp faces and noises."""
    rng = generator(seed, "recalibration")
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momentum = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    device, was = next(model.parameters()).device, model.training
    model.train()
    count, size = RECALIBRATION
    stream = batches(pictures, min(size, len(pictures)), seed)
    for _ in range(min(count, math.ceil(len(pictures) / size))):
        sharp = next(stream)
        noise = torch.randn(len(sharp), model.noise_dim, generator=rng)
        model(sharp.to(device), noise.to(device))
    model.train(was)
    for norm, value in zip(norms, momentum, strict=True):
        norm.momentum = value


def train(recipe: Recipe, resume: str = "auto", stop_after: float | None = None) -> Path:
    """Train, or go on training, and export the averaged generator.

    Args:
        recipe: settings.
        resume: "auto" continues the run in `recipe.out`; "never" insists on a new one.
        stop_after: seconds after which to save and return early; the same call continues.

    Returns:
        The exported network, `<out>/degradation.safetensors` (half precision).
    """
    twice = 2 if recipe.diversity else 1
    accelerator, size = start_accelerator(recipe.batch, twice)
    device = accelerator.device
    shape = recipe.generator
    pictures = load_pictures(recipe.data, shape.hr_size, progress=accelerator.is_main_process)
    reals, sides = small_faces(recipe.real, shape.lr_size, recipe.native, recipe.crops, recipe.zoom, recipe.seed)
    held = small_faces(recipe.held, shape.lr_size, recipe.native)[0] if recipe.held else None
    accelerator.print(f"{len(pictures)} sharp faces; {count_by_side(sides)}", flush=True)
    network = None
    if recipe.delta:
        network = FEATURE_NETWORKS[recipe.features].from_file(recipe.feature_weights).to(device)
        channels_last(network)

    changeable = (
        "images",
        "lr_steps",
        "snapshot",
        "log",
        "data",
        "real",
        "held",
        "out",
        "precision",
        "feature_weights",
    )
    players = start_run(accelerator, recipe, build_run, resume, changeable)
    run, g, d, opt_g, opt_d, average = players.parts
    seen = steps_before(recipe, run.progress.images)
    sharp = players.stream(pictures, size // twice, recipe.seed, seen[0] * recipe.batch // twice)
    small = players.stream(reals, size, recipe.seed + 1, seen[1] * recipe.batch)
    autocast = players.autocast(recipe.precision)
    wasserstein = recipe.loss == "wgan-gp"
    path = run.folder / "degradation.safetensors"

    while run.progress.images < recipe.images:
        warm = run.progress.images < recipe.warmup
        set_rates((opt_g, opt_d), stepped(recipe.lr_g, recipe.lr_d, recipe.lr_steps, run.progress.images))
        for step in range(1 if warm else recipe.critic_steps):
            hr = next(sharp).repeat(twice, 1, 1, 1)
            last = warm or step == recipe.critic_steps - 1  # its pictures serve the generator too
            with torch.autocast(**autocast), torch.set_grad_enabled(last):
                made = g(hr, torch.randn(size, shape.noise_dim, device=device))
            if warm:
                continue
            (seen_real,) = d.project(augment(next(small), recipe.augment))
            (seen_made,) = d.project(augment(made, recipe.augment))
            with torch.autocast(**autocast):
                scores_real, scores_made = d([seen_real]), d([seen_made.detach()])
            if wasserstein:
                value_d = losses.wasserstein_d(scores_real, scores_made)
                at = losses.between(seen_real, seen_made)
                with torch.autocast(**autocast):
                    scores_at = d([at])
                penalty = losses.gradient_penalty(at, scores_at)
                value_d = value_d + recipe.penalty * penalty
                run.add(penalty=penalty.detach())
            else:
                value_d = losses.hinge_d(scores_real, scores_made)
            opt_d.zero_grad(set_to_none=True)
            accelerator.backward(value_d)
            players.update(d, opt_d)
            means = (t[0].detach().mean() for t in (scores_real, scores_made))
            run.add(loss_d=value_d.detach(), score_real=next(means), score_made=next(means))

        one = size // twice
        with torch.autocast(**autocast):
            enlarged = enlarge(made, shape.hr_size)
            l1 = F.l1_loss(enlarged, hr)
            vgg = perceptual(network, enlarged[:one], hr[:one]) if network is not None else l1.new_zeros(())
        value_g = recipe.alpha * (recipe.gamma * l1 + recipe.delta * vgg)
        d.requires_grad_(False)
        if not warm:
            with torch.autocast(**autocast):
                scores = d([seen_made])
            gan = losses.wasserstein_g(scores) if wasserstein else losses.hinge_g(scores)
            value_g = value_g + recipe.beta * gan
            run.add(gan=gan.detach())
        if twice == 2:
            apart = (made[:one] - made[one:]).abs().mean(dim=(1, 2, 3))
            run.add(apart=apart.detach().mean())
            value_g = value_g + (0.0 if warm else recipe.diversity) * F.relu(recipe.spread - apart).mean()
        opt_g.zero_grad(set_to_none=True)
        accelerator.backward(value_g)
        players.update(g, opt_g)
        d.requires_grad_(True)

        before = run.progress.images
        run.progress.images += recipe.batch
        update_average(average, g, recipe.ema)
        run.add(loss_g=value_g.detach(), l1=l1.detach(), vgg=vgg.detach())
        ended = run.progress.images >= recipe.images
        due = ended or every(recipe.log, before, run.progress.images)
        if due and held is not None and not warm:
            run.add(score_held=mean_score(d, held), score_seen=mean_score(d, reals[:: recipe.crops]))
        stop = due and run.report(stop_after)
        if stop or ended or every(recipe.snapshot, before, run.progress.images):
            recalibrate(average, pictures, recipe.seed)
            run.snapshot(grid(average, pictures, reals[:: recipe.crops], recipe.seed), SHOWN, cell=96)
            path = export(average, recipe, run)
        if stop:
            break
    return path


def mean_score(d: ResidualDiscriminator, faces: Pictures) -> Tensor:
    """What the discriminator thinks of these small faces (n, h, w, 3) uint8, as they are, on average."""
    device = next(d.parameters()).device
    x = to_tensor(np.ascontiguousarray(faces), device)
    with evaluating(d):
        (features,) = d.project(x)
        return d([features])[0].mean()


def steps_before(recipe: Recipe, images: int) -> tuple[int, int]:
    """How many batches of sharp and of small faces were shown before the generator had seen so many pictures."""
    steps = math.ceil(images / recipe.batch)
    warm = min(steps, math.ceil(recipe.warmup / recipe.batch))
    critic = (steps - warm) * recipe.critic_steps
    return warm + critic, critic


def grid(model: DegradationGAN, pictures: Pictures, reals: Pictures, seed: int) -> Tensor:
    """Rows of `SHOWN`: sharp faces, their small versions by four noises, natively small faces; all at hr_size."""
    device = next(model.parameters()).device
    hr, real = (next(_fixed(p, seed)).to(device) for p in (pictures, reals))
    with evaluating(model):
        small = [model(hr, model.noise([noise] * SHOWN).to(device)) for noise in range(4)]
    return torch.cat([hr, *(F.interpolate(x, hr.shape[-2:], mode="nearest") for x in (*small, real))]).clamp(0, 1)


def _fixed(pictures: Pictures, seed: int) -> Iterator[Tensor]:
    return batches(pictures, SHOWN, seed)


def export(average: DegradationGAN, recipe: Recipe, run: Run) -> Path:
    """Write the averaged generator as a self-describing half-precision file; of paths it keeps the names."""
    path = run.folder / "degradation.safetensors"
    if run.accelerator.is_main_process:
        names = [Path(s).name for s in recipe.data]
        real, held = ([plain_source(s) for s in paths] for paths in (recipe.real, recipe.held))
        weights = Path(recipe.feature_weights).name
        about = asdict(replace(recipe, out="", data=names, real=real, held=held, feature_weights=weights))
        trained: dict[str, Any] = {"images_seen": run.progress.images, "recipe": about, "data": [*names, *real]}
        save_prior(path, average, trained, looked_through=(recipe.features,) if recipe.delta else ())
    run.accelerator.wait_for_everyone()
    return path


def describe(recipe: Recipe) -> str:
    """Sizes of the networks that the recipe would train, without needing its data."""
    with torch.device("meta"):
        g, d, *_ = build_run(recipe)
    counts = [sum(p.numel() for p in m.parameters()) for m in (g, d)]
    return f"generator: {counts[0]:,} parameters\ndiscriminator: {counts[1]:,} parameters"
