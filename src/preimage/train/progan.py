"""Train a ProGAN prior by progressive growing (Karras et al., 2018, section 2 and appendix A.1). One readable script.

One phase per size, 4x4 first: both networks grow by one size, whose layers fade in while the real pictures sharpen with
them, and then settle. Everything is counted in pictures, so a run goes on in the middle of a fade-in as if it had not stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import RecipeError
from preimage.generate.progan import ProGAN, ProGANConfig
from preimage.nets.progressive import ProgressiveDiscriminator
from preimage.seeds import normal
from preimage.train import losses
from preimage.train.checks import check, check_choice
from preimage.train.data import load_pictures
from preimage.train.loop import evaluating, every, update_average
from preimage.train.start import start_accelerator, start_run


@dataclass(frozen=True)
class Recipe:
    """Settings of one run. Lists have one entry per size, 4x4 first; the discriminator mirrors the generator.

    Attributes:
        out: run folder.
        data: folders or zip archives of training pictures.
        generator: shape of the generator.
        epochs: length of each phase, in showings of every picture of `data`.
        images: length of each phase in pictures; replaces `epochs` where given.
        batches: pictures per step, over all processes.
        fade: share of each phase, but the first, in which the new size fades in.
        extra: pictures to show at full size after the last phase; a run that continues may have more of them.
        lr_g, lr_d: Adam's learning rates.
        betas: Adam's betas.
        forget: whether Adam starts anew with each size: a new size changes all slopes at once, and steps scaled by the old
            ones destroy what was learned (Karras et al. do so in their code; pro_gan_pytorch does not).
        warmup: pictures after each growth over which the generator's rate rises from 0: it waits until the discriminator can
            see the new size, else it overruns it and both are lost.
        penalty: weight of the gradient penalty (lambda of WGAN-GP).
        drift: weight of the mean square of the real scores.
        ema: what the generator's moving average keeps of itself at each step.
        precision: fp32 or bf16 feature maps.
        snapshot: pictures between two grids and saved states; the end of a phase is one too.
        log: pictures between two lines of stats.jsonl; the end of a phase is one too.
        seed: of everything random.
        name: of the exported prior.
    """

    out: str
    data: list[str]
    generator: ProGANConfig = field(default_factory=ProGANConfig)
    epochs: tuple[float, ...] = (10, 20, 20, 20, 50)
    images: tuple[int, ...] = ()
    batches: tuple[int, ...] = (64, 64, 64, 32, 16)
    fade: float = 0.5
    extra: int = 0
    lr_g: float = 1e-3
    lr_d: float = 1e-3
    betas: tuple[float, float] = (0.0, 0.99)
    forget: bool = True
    warmup: int = 0
    penalty: float = 10.0
    drift: float = 1e-3
    ema: float = 0.999
    precision: str = "fp32"
    snapshot: int = 100_000
    log: int = 10_000
    seed: int = 0
    name: str = "progan"

    def __post_init__(self) -> None:
        sizes, key = self.generator.depth, "images" if self.images else "epochs"
        for found, value in ((key, self.images or self.epochs), ("batches", self.batches)):
            if len(value) != sizes or not all(v > 0 for v in value):
                sides = ", ".join(map(str, self.generator.resolutions))
                raise RecipeError(
                    f"{found}: {list(value)} must be {sizes} positive numbers, one for each of {sides} px."
                )
        bounds = {
            "count": ("snapshot", "log", "batches"),
            "positive": ("epochs",),
            "weight": ("extra", "warmup", "lr_g", "lr_d", "penalty", "drift"),
            "share": ("fade",),
            "decay": ("betas", "ema"),
            "seed": ("seed",),
        }
        check(self, bounds)
        check_choice("precision", self.precision, ("fp32", "bf16"))
        if self.generator.alpha != 1:
            raise RecipeError("generator.alpha: leave it out; the run itself fades in.")


@dataclass(frozen=True)
class Stage:
    """What one step trains: how many sizes, how far the last of them has faded in, how many pictures."""

    depth: int
    alpha: float
    batch: int


@dataclass(frozen=True)
class Plan:
    """The phases of a run in pictures.

    Attributes:
        ends: pictures shown at the end of each phase; phases are whole numbers of batches.
        batches: pictures per step of each phase.
        fade: share of each phase, but the first, that fades in.
        extra: pictures after the last phase, in its way.
    """

    ends: tuple[int, ...]
    batches: tuple[int, ...]
    fade: float
    extra: int = 0

    @property
    def total(self) -> int:
        """Pictures shown in all."""
        return self.ends[-1] + self.extra

    def since_growth(self, images: int) -> int:
        """Pictures shown since the networks last grew, or since the start."""
        return images - max((end for end in self.ends[:-1] if end <= images), default=0)

    def stage(self, images: int) -> Stage:
        """The stage of the step that begins after so many pictures; its own pictures count for the fade-in already."""
        i = next((i for i, end in enumerate(self.ends) if images < end), len(self.ends) - 1)
        start, batch = self.ends[i - 1] if i else 0, self.batches[i]
        fading = self.fade * (self.ends[i] - start)
        alpha = min(1.0, (images + batch - start) / fading) if i and fading else 1.0
        return Stage(i + 1, alpha, batch)


def make_plan(recipe: Recipe, pictures: int) -> Plan:
    """The phases of a recipe over so many training pictures."""
    wanted = recipe.images or [epochs * pictures for epochs in recipe.epochs]
    lengths = [math.ceil(length / batch) * batch for length, batch in zip(wanted, recipe.batches, strict=True)]
    return Plan(tuple(accumulate(lengths)), tuple(recipe.batches), recipe.fade, recipe.extra)


def build_run(recipe: Recipe) -> tuple[ProGAN, ProgressiveDiscriminator, torch.optim.Optimizer, torch.optim.Optimizer]:
    """Generator, discriminator and their optimisers, as a run starts with them: all sizes are there from the start."""
    shape = recipe.generator
    g = ProGAN(shape, recipe.name)
    d = ProgressiveDiscriminator(shape.resolution, shape.channel_base, shape.channel_max)
    opt_g = torch.optim.Adam(g.parameters(), lr=recipe.lr_g, betas=recipe.betas, eps=1e-8)
    opt_d = torch.optim.Adam(d.parameters(), lr=recipe.lr_d, betas=recipe.betas, eps=1e-8)
    return g, d, opt_g, opt_d


def shrink(pictures: Tensor, side: int, alpha: float) -> Tensor:
    """Real pictures as a stage sees them: box-filtered to `side`, their finest detail weighted by alpha."""
    x = F.avg_pool2d(pictures, pictures.shape[-1] // side)
    if alpha == 1:
        return x
    return torch.lerp(F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="nearest"), x, alpha)


def train(recipe: Recipe, resume: str = "auto", stop_after: float | None = None) -> Path:
    """Train, or go on training, and export the averaged generator at the size that it has reached.

    Args:
        recipe: settings.
        resume: "auto" continues the run in `recipe.out`; "never" insists on a new one.
        stop_after: seconds after which to save and return early; the same call continues.

    Returns:
        The exported prior, `<out>/prior.safetensors` (half precision).
    """
    for batch in recipe.batches:
        accelerator, _ = start_accelerator(batch)
    processes, device = accelerator.num_processes, accelerator.device
    pictures = load_pictures(recipe.data, recipe.generator.resolution, progress=accelerator.is_main_process)
    plan = make_plan(recipe, len(pictures))
    players = start_run(
        accelerator, recipe, build_run, resume, ("extra", "snapshot", "log", "data", "out", "precision"),
        settings=asdict(recipe) | {"phases": plan.ends},  # epochs of other data would be other phases
    )  # fmt: skip
    run, g, d, opt_g, opt_d, average = players.parts
    z_grid = normal(range(32), (recipe.generator.z_dim,), "grid").to(device)
    autocast = players.autocast(recipe.precision)
    path = run.folder / "prior.safetensors"
    stream: Iterator[Tensor] = iter(())
    streaming = 0  # pictures per batch of the stream

    while run.progress.images < plan.total:
        stage = plan.stage(run.progress.images)
        side, alpha, size = recipe.generator.resolutions[stage.depth - 1], stage.alpha, stage.batch // processes
        since = plan.since_growth(run.progress.images)
        if recipe.forget and not since and stage.depth > 1:
            for optimiser in (opt_g, opt_d):
                optimiser.state.clear()
        for group in opt_g.param_groups:
            group["lr"] = recipe.lr_g * min(1.0, since / recipe.warmup if recipe.warmup and stage.depth > 1 else 1.0)
        if size != streaming:
            stream = players.stream(pictures, size, recipe.seed)
            streaming = size

        (real,) = d.project(shrink(next(stream), side, alpha))
        z = torch.randn(size, recipe.generator.z_dim, device=device)
        with torch.autocast(**autocast):
            (imagined,) = d.project(g(z, stage.depth, alpha))
            scores_real, scores_fake = d([real], alpha), d([imagined.detach()], alpha)
            at = losses.between(real, imagined)
            scores_at = d([at], alpha)
        penalty = losses.gradient_penalty(at, scores_at)
        distance = -losses.wasserstein_d(scores_real, scores_fake)
        value_d = recipe.penalty * penalty + recipe.drift * losses.drift(scores_real) - distance
        opt_d.zero_grad(set_to_none=True)
        accelerator.backward(value_d)
        players.update(d, opt_d)

        d.requires_grad_(False)
        with torch.autocast(**autocast):
            value_g = losses.wasserstein_g(d([imagined], alpha))
        opt_g.zero_grad(set_to_none=True)
        accelerator.backward(value_g)
        players.update(g, opt_g)
        d.requires_grad_(True)

        before = run.progress.images
        run.progress.images += stage.batch
        update_average(average, g, recipe.ema)
        run.add(
            side=side,
            alpha=alpha,
            loss_d=value_d.detach(),
            loss_g=value_g.detach(),
            distance=distance.detach(),
            penalty=penalty.detach(),
            score_real=scores_real[0].detach().mean(),
        )
        grown = run.progress.images in plan.ends or run.progress.images >= plan.total
        stop = (grown or every(recipe.log, before, run.progress.images)) and run.report(stop_after)
        if stop or grown or every(recipe.snapshot, before, run.progress.images):
            with evaluating(average):
                grid = average(z_grid, stage.depth, alpha).clamp(0, 1)
            run.snapshot(grid, cell=128)
            path = run.export(average.at(stage.depth, stage.alpha), recipe, looked_through=())
        if stop:
            break
    return path


def describe(recipe: Recipe) -> str:
    """Sizes of the networks that the recipe would train, without needing its data."""
    with torch.device("meta"):
        g, d, *_ = build_run(recipe)
    lines = []
    for depth, side in enumerate(recipe.generator.resolutions, 1):
        length = f"{recipe.images[depth - 1]:,} pictures" if recipe.images else f"{recipe.epochs[depth - 1]:g} epochs"
        with torch.device("meta"):
            small = g.at(depth)
        count = sum(p.numel() for p in small.parameters())
        lines.append(f"{side} px: {length}, batch {recipe.batches[depth - 1]}, generator {count:,} parameters")
    return "\n".join([*lines, f"discriminator: {sum(p.numel() for p in d.parameters()):,} parameters"])
