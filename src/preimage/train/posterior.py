"""Train the posterior sampler: the energy score makes it answer with the right spread, a discriminator makes it sharp.

Every answer is consistent with its photo while it trains (`invert.sampler.answer`), so the discriminator needs no condition:
the photo is a function of the picture, and where pictures as a whole look like faces as a whole, so do photo and picture together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.declaration import declared, remember
from preimage.degrade.learned import LearnedDegradation
from preimage.invert.sampler import answer, draw
from preimage.nets.conditional import (
    FLOOR,
    SHARPNESS,
    ConditionalConfig,
    ConditionalGenerator,
    octaves,
    standard_sharpness,
)
from preimage.nets.discriminators import ProjectedDiscriminator
from preimage.nets.local import LocalGenerator
from preimage.train import losses
from preimage.train.data import Crops, Pictures, held_back, load_crops, load_pictures, plain_source
from preimage.train.loop import Run, average_decay, compiled, evaluating, every, set_rates, update_average
from preimage.train.losses import energy_score
from preimage.train.posterior_networks import Generator, build, build_run, chain, first_of
from preimage.train.posterior_photos import camera_of, small, take
from preimage.train.posterior_settings import (
    LocalRecipe,
    Problem,
    Problems,
    Recipe,
    adversary,
    draw_problem,
    problem,
    rates,
)
from preimage.train.start import start_accelerator, start_run
from preimage.weight_files import save_prior

__all__ = ["LocalRecipe", "Problems", "Recipe", "describe", "train"]

SHOWN = (("bicubic", 16),) * 4 + (("bicubic", 8), ("area", 23), ("gaussian", 32), ("bicubic", 48))
"""Kernel and size of the photos in a grid, row by row; those that are not smaller than the pictures become 16."""
ANSWERS = 6  # of each photo in a grid
MAY_CHANGE = (
    "images", "snapshot", "log", "compile", "data", "out", "lr_steps", "precision", "feature_weights", "init",
    "init_discriminator", "first", "spread", "texture_score", "keep_sharpness",
)  # fmt: skip
LOGGED = ("ratio_texture", "sharpness_missed")
TEXTURE_SPREAD = 0.5  # not 1, the proper score, which hardly sees rare blemishes on plain ground


def texture(pictures: Tensor) -> Tensor:
    """How much there is of the three finest octaves in windows of 8x8 pixels: half the logarithm of their energy, (n, 3, h/8, w/8)."""
    found = [F.avg_pool2d(energy, 8 >> i) for i, energy in enumerate(octaves(pictures, 3))]
    return (torch.stack(found, dim=1) + FLOOR**2).log() / 2


def train(recipe: Recipe, resume: str = "auto", stop_after: float | None = None) -> Path:
    """Train, or go on training, and export the averaged network.

    Args:
        recipe: settings.
        resume: "auto" continues the run in `recipe.out`; "never" insists on a new one.
        stop_after: seconds after which to save and return early; the same call continues.

    Returns:
        The exported network, `<out>/posterior.safetensors` (half precision).
    """
    accelerator, n = start_accelerator(recipe.batch)
    device = accelerator.device
    camera, before_it = camera_of(recipe, device), first_of(recipe)  # before anything is decoded
    pictures, held = faces(recipe, accelerator.is_main_process)
    players = start_run(accelerator, recipe, build_run, resume, MAY_CHANGE, calibrate=pictures)
    run, g, d, opt_g, opt_d, average = players.parts
    stream, autocast = players.stream(pictures, n, recipe.seed), players.autocast(recipe.precision)
    generate, features = compiled(g, recipe.compile), compiled(d.network, recipe.compile)
    path = run.folder / "posterior.safetensors"
    conditioned = g.config.sharpness if isinstance(g.config, ConditionalConfig) else ()

    while run.progress.images < recipe.images:
        truth = next(stream).contiguous(memory_format=torch.channels_last)
        drawn = draw_problem(recipe, run.progress.images)
        operator = drawn.operator
        photo, tolerance = take(truth, drawn, camera)
        speeds, weight = rates(recipe, run.progress.images), adversary(recipe, run.progress.images)
        set_rates((opt_g, opt_d), speeds)
        moves, judges = speeds[0] > 0, run.progress.images >= recipe.adversary_start[0] and recipe.adversary > 0

        # two answers to each photo; the fixed features serve the score and both players
        z = {level: torch.randn(2 * n, *shape, device=device) for level, shape in g.config.z_shapes.items()}
        if conditioned:  # both answers are, what the truth has
            z[SHARPNESS] = standard_sharpness(truth, conditioned).repeat(2, 1)
        with torch.autocast(**autocast):
            with torch.set_grad_enabled(moves):
                answers = answer(generate, operator, torch.cat([photo, photo]), z, tolerance)
                raw = features(d.enlarge(answers))
            with torch.no_grad():
                raw_truth = features(d.enlarge(truth))

        if judges:
            with torch.autocast(**autocast):
                seen = [*d.mix(raw), answers * 2 - 1] if recipe.pixel_width else d.mix(raw)
                with torch.no_grad():
                    real = [*d.mix(raw_truth), truth * 2 - 1] if recipe.pixel_width else d.mix(raw_truth)
                value_d = losses.hinge_d(d(real), d([x.detach() for x in seen]))
            opt_d.zero_grad(set_to_none=True)
            accelerator.backward(value_d)
            players.update(d, opt_d)
            run.add(loss_d=value_d.detach())

        if moves:
            value, found = score(answers, truth, raw, raw_truth, d, z.get(SHARPNESS), recipe)
            run.add(**{name: x for name, x in found.items() if name in LOGGED})
            if judges and weight > 0:
                d.requires_grad_(False)
                with torch.autocast(**autocast):
                    word = losses.hinge_g(d(seen))
                d.requires_grad_(True)
                value = value + weight * word
                run.add(loss_g=word.detach())
            opt_g.zero_grad(set_to_none=True)
            accelerator.backward(value)
            players.update(g, opt_g)
            run.add(**ratios(found, answers.detach(), truth, drawn, recipe))

        before = run.progress.images
        run.progress.images += recipe.batch
        update_average(average, g, average_decay(recipe.batch, run.progress.images, recipe.ema_half_life))
        done = run.progress.images >= recipe.images
        stop = (done or every(recipe.log, before, run.progress.images)) and run.report(stop_after)
        if stop or done or every(recipe.snapshot, before, run.progress.images):
            shown = grid(average, held if len(held) else pictures, recipe)
            run.snapshot(shown, columns=ANSWERS + 2, cell=max(128, g.resolution))
            path = export(average, recipe, run, before_it, camera)
        if stop:
            break
    return path


def score(
    answers: Tensor,
    truth: Tensor,
    raw: Sequence[Tensor],
    raw_truth: Sequence[Tensor],
    d: ProjectedDiscriminator,
    asked: Tensor | None,
    recipe: Recipe,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Everything that the answers are held to but the discriminator's word.

    Args:
        answers: two to each photo, (2n, 3, R, R), the first ones of all and then the second ones.
        truth: (n, 3, R, R).
        raw, raw_truth: features of both, level by level.
        d: which knows their scales.
        asked: (2n, 1), the sharpness that the answers were told; None where they were not.
        recipe: weights.

    Returns:
        The sum, and what it is made of: distances to the truth and between answers in features (`far`, `near`) and in pixels
        (`pixel_far`, `pixel_near`), and for the log `ratio_texture` and `sharpness_missed`.
    """
    n, half = len(truth), recipe.spread / 2
    far = near = answers.new_zeros(())
    for i, (a, x) in enumerate(zip(raw, raw_truth, strict=True)):
        scale = getattr(d.mix, f"spread{i}") * a.shape[1] ** 0.5
        miss, gap = energy_score(a[:n], a[n:], x)
        far, near = far + miss / scale, near + gap / scale
    pixels = [F.pixel_unshuffle(x.float(), recipe.patch) for x in (answers[:n], answers[n:], truth)]
    pixel_far, pixel_near = energy_score(*pixels)
    outside = F.relu((answers - 0.5).abs() - 0.5).square().mean()
    value = recipe.feature_score * (far - half * near) + recipe.pixel_score * (pixel_far - half * pixel_near)
    value = value + recipe.outside * outside
    found = {"far": far, "near": near, "pixel_far": pixel_far, "pixel_near": pixel_near}
    if recipe.texture_score:
        rough, apart = energy_score(*(texture(x) for x in (answers[:n], answers[n:], truth)))
        value = value + recipe.texture_score * (rough - TEXTURE_SPREAD / 2 * apart)
        found["ratio_texture"] = apart / rough
    if asked is not None and isinstance(recipe.generator, ConditionalConfig):
        off = standard_sharpness(answers, recipe.generator.sharpness) - asked
        value = value + recipe.keep_sharpness * off.square().mean()
        found["sharpness_missed"] = off.abs().mean()
    return value, {name: x.detach() for name, x in found.items()}


def faces(recipe: Recipe, progress: bool) -> tuple[Pictures | Crops, Pictures | Crops]:
    """What is learned from, and what is held back; crops for a second stage."""
    side = recipe.generator.resolution
    if isinstance(recipe, LocalRecipe):
        return load_crops(recipe.data, recipe.sides, side, recipe.crops, recipe.hold, recipe.seed, progress)
    return split(load_pictures(recipe.data, side, progress=progress), recipe.hold)


def split(pictures: Pictures, hold: int) -> tuple[Pictures, Pictures]:
    """What is learned from, and `hold` pictures, evenly spaced, that are not.

    Raises:
        RecipeError: more to hold than half of what there is.
    """
    where = held_back(len(pictures), hold)
    return (pictures[~where], pictures[where]) if hold else (pictures, pictures[:0])


@torch.no_grad()
def ratios(
    found: Mapping[str, Tensor], answers: Tensor, truth: Tensor, drawn: Problem, recipe: Recipe
) -> dict[str, Tensor]:
    """What stats.jsonl says of the spread: answers' distance to each other over that to the truth (1 is perfect, 0 collapsed), in
    features and pixels, and the squared error of one answer over that of the mean of two (4/3 and 1); of the problem in focus too.

    Args:
        found: of `score`.
        answers, truth, drawn, recipe: as there.
    """
    n = len(truth)
    one = (answers[:n] - truth).square().mean()
    both = ((answers[:n] + answers[n:]) / 2 - truth).square().mean()
    said = {
        "ratio_features": found["near"] / found["far"],
        "ratio_pixels": found["pixel_near"] / found["pixel_far"],
        "ratio_errors": one / both,
        "far": found["far"],
    }
    focused = drawn == Problem(problem("bicubic", recipe.generator.resolution, recipe.problems.focus))
    said |= {f"focus_{key}": value for key, value in said.items()} if focused else {}
    return said | {"l1": (answers[:n] - truth).abs().mean()}


def grid(model: Generator, faces: Pictures | Crops, recipe: Recipe) -> Tensor:
    """Rows of photo, answers and truth, as in `SHOWN`; (rows * (ANSWERS + 2), 3, R, R) in [0, 1]."""
    side, device = model.resolution, next(model.parameters()).device
    small_ones = [16 if size >= side else size for _, size in SHOWN]
    if isinstance(model, LocalGenerator):
        small_ones = [recipe.problems.focus] * len(SHOWN)
    kernels = [kernel if kernel in recipe.problems.kernels else "bicubic" for kernel, _ in SHOWN]
    places = np.linspace(0, len(faces) - 1, len(SHOWN)).round().astype(int)
    chosen = np.stack([faces[int(i)] for i in places])
    truth = torch.from_numpy(chosen).to(device).permute(0, 3, 1, 2).float() / 255
    rows: list[Tensor] = []
    with evaluating(model):
        for x, kernel, size in zip(truth, kernels, small_ones, strict=True):
            operator = problem(kernel, side, size)
            photo = small(x[None], operator)
            z = draw(model.config, range(ANSWERS), device)
            answers = answer(model, operator, photo.expand(ANSWERS, -1, -1, -1), z)
            rows += [F.interpolate(photo, (side, side), mode="nearest"), answers, x[None]]
    return torch.cat(rows).clamp(0, 1)


def export(
    average: Generator,
    recipe: Recipe,
    run: Run,
    first: ConditionalGenerator | None = None,
    camera: LearnedDegradation | None = None,
) -> Path:
    """Write the averaged network as a self-describing half-precision file; of paths it keeps the names."""
    path = run.folder / "posterior.safetensors"
    if run.accelerator.is_main_process:
        names = [plain_source(source) for source in recipe.data]
        weights = Path(recipe.feature_weights).name
        init = Path(recipe.init).name
        about = asdict(
            replace(
                recipe,
                out="",
                data=names,
                feature_weights=weights,
                init=init,
                init_discriminator="",
                degradation=Path(recipe.degradation).name,
            )
        )
        if isinstance(recipe, LocalRecipe):
            about["first"] = Path(recipe.first).name
        trained: dict[str, Any] = {"images_seen": run.progress.images, "recipe": about, "data": names}
        degradations = (*recipe.problems.kernels, *([camera.name] if camera is not None else []))
        save_prior(path, average, trained, degradations=degradations, looked_through=(recipe.features,))
        if first is not None and isinstance(average, LocalGenerator):
            both, before = chain(first, average), declared(first)
            remember(both, before)
            degradations = before.degradations if before is not None else ()  # its photos come to the first stage
            trained |= {"first_stage": first.name}
            whole = run.folder / "chain.safetensors"
            save_prior(whole, both, trained, degradations=degradations, looked_through=(recipe.features,))
    run.accelerator.wait_for_everyone()
    return path


def describe(recipe: Recipe) -> str:
    """Sizes of the networks that the recipe would train, without needing its data."""
    with torch.device("meta"):
        g = build(recipe)
    parts: Sequence[tuple[str, nn.Module]] = (("trunk", g), ("levels", g.levels))
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts}
    where = "from half of the side on" if isinstance(g, LocalGenerator) else "from 32 px on"
    return f"generator: {counts['trunk']:,} parameters, {counts['levels']:,} of them {where}"
