"""Train the branches of a deeply supervised generator (Pro-PULSE, section III-C): a frozen prior learns to draw small as well.

Equation 1: L_pix + lambda_pp * L_pp. Each branch's picture is held against the whole picture, made small by bicubic reduction: in
pixels (equation 2) and in the features of a fixed network (equation 3), as means of squared differences. The prior draws its own
examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.degrade.linear import bicubic
from preimage.errors import RecipeError
from preimage.generate.side_outputs import Branched, SideOutputs
from preimage.generate.style_prior import StylePrior
from preimage.nets.features import FeatureNetwork, load_features
from preimage.nets.layers import channels_last
from preimage.seeds import normal
from preimage.train.loop import Run, evaluating, every, update_average
from preimage.train.side_outputs_settings import Recipe as Recipe
from preimage.train.start import start_accelerator, start_run
from preimage.weight_files import bound, save_prior
from preimage.weights import load_prior

SHOWN = 8  # faces in a grid
MAY_CHANGE = ("images", "snapshot", "log", "out", "precision", "feature_weights")


def build_run(recipe: Recipe) -> tuple[SideOutputs, None, torch.optim.Optimizer, None]:
    """The branches and their optimiser, as a run starts with them; nobody judges."""
    g = SideOutputs(recipe.branches, recipe.name)
    return g, None, torch.optim.Adam(g.parameters(), lr=recipe.lr, betas=recipe.betas), None


def load_frozen(recipe: Recipe) -> Any:
    """The prior of a recipe.

    Raises:
        RecipeError: one whose feature maps cannot be had, or do not fit the branches.
    """
    prior = load_prior(recipe.prior)
    if not isinstance(prior, Branched):
        raise RecipeError(
            f"prior: {recipe.prior} is a {type(prior).__name__}; StyleGAN2, StyleGAN and ProGAN can have branches."
        )
    shape, widths = recipe.branches, prior.feature_widths
    have = [widths.get(side) for side in shape.sides]
    if prior.own_sides[-1] != shape.resolution or have != list(shape.channels):
        raise RecipeError(
            f"branches: say {shape.resolution} px and channels {list(shape.channels)} at {list(shape.sides)} px, but "
            f"{recipe.prior} has {prior.own_sides[-1]} px and {have}; make them equal."
        )
    return prior


@torch.no_grad()
def imagine(prior: Any, z: Tensor, noise: Sequence[Tensor], sides: tuple[int, ...]) -> tuple[dict[int, Tensor], Tensor]:
    """Faces of z (n, z_dim) and noise maps: the prior's feature maps by side, and the whole pictures (n, 3, R, R), not clamped."""
    latents = z[:, None]
    if isinstance(prior, StylePrior):
        latents = prior.mapping(z)[:, None].expand(-1, prior.config.rows, -1)
    found: tuple[dict[int, Tensor], Tensor] = prior.features(latents, noise, sides)
    return found


def targets(pictures: Tensor, sides: tuple[int, ...]) -> dict[int, Tensor]:
    """DS of equations 2 and 3: whole pictures (n, 3, R, R) made small to every side."""
    return {side: bicubic(pictures.shape[-1], lr_size=side)(pictures) for side in sides}


def pixel_term(made: Mapping[int, Tensor], wanted: Mapping[int, Tensor]) -> Tensor:
    """Equation 2: mean over the sides of the mean squared difference."""
    return torch.stack([F.mse_loss(made[side], wanted[side]) for side in made]).mean()


def perceptual_term(network: FeatureNetwork, made: Mapping[int, Tensor], wanted: Mapping[int, Tensor]) -> Tensor:
    """Equation 3: the same of features, mean over the taps; pictures too small for the network are doubled until it takes them."""
    terms = []
    for side, picture in made.items():
        size = side
        while size < network.smallest:
            size *= 2
        one, two = (
            F.interpolate(x, (size, size), mode="bicubic", align_corners=False) if size > side else x
            for x in (picture, wanted[side])
        )
        with torch.no_grad():
            reference = network(two)
        pairs = zip(network(one), reference, strict=True)
        terms.append(torch.stack([F.mse_loss(a.float(), b.float()) for a, b in pairs]).mean())
    return torch.stack(terms).mean()


def train(recipe: Recipe, resume: str = "auto", stop_after: float | None = None) -> Path:
    """Train, or go on training, and export the averaged branches.

    Args:
        recipe: settings.
        resume: "auto" continues the run in `recipe.out`; "never" insists on a new one.
        stop_after: seconds after which to save and return early; the same call continues.

    Returns:
        The exported branches, `<out>/side-output.safetensors` (half precision), bound to the prior.
    """
    accelerator, n = start_accelerator(recipe.batch)
    device, sides = accelerator.device, recipe.branches.sides
    prior = load_frozen(recipe)
    settings = asdict(recipe) | {"prior_sha256": bound(prior).sha256}
    prior = prior.to(device)
    network = None
    if recipe.perceptual:
        network = load_features(recipe.features, recipe.feature_weights).to(device)
        channels_last(network)
    players = start_run(accelerator, recipe, build_run, resume, MAY_CHANGE, settings=settings)
    run, g, _, opt_g, _, average = players.parts
    autocast = players.autocast(recipe.precision)
    path = run.folder / "side-output.safetensors"

    while run.progress.images < recipe.images:
        z = torch.randn(n, prior.config.z_dim, device=device)
        noise = [torch.randn(n, 1, side, side, device=device) for side in prior.noise_sizes]
        maps, whole = imagine(prior, z, noise, sides)
        wanted = targets(whole, sides)
        with torch.autocast(**autocast):
            made = g(maps)
            pixel = pixel_term(made, wanted)
            perceptual = pixel.new_zeros(()) if network is None else perceptual_term(network, made, wanted)
        value = pixel + recipe.perceptual * perceptual
        opt_g.zero_grad(set_to_none=True)
        accelerator.backward(value)
        players.update(g, opt_g)

        before = run.progress.images
        run.progress.images += recipe.batch
        steps = run.progress.images // recipe.batch
        update_average(average, g, min(recipe.ema, (1 + steps) / (10 + steps)))  # short at first: it begins untrained
        run.add(loss=value.detach(), pixel=pixel.detach(), perceptual=perceptual.detach())
        ended = run.progress.images >= recipe.images
        stop = (ended or every(recipe.log, before, run.progress.images)) and run.report(stop_after)
        if stop or ended or every(recipe.snapshot, before, run.progress.images):
            run.snapshot(grid(average, prior, recipe), SHOWN, cell=96)
            path = export(average, prior, recipe, run)
        if stop:
            break
    return path


def grid(branches: SideOutputs, prior: Any, recipe: Recipe) -> Tensor:
    """Rows of `SHOWN` faces, always the same: each side as its branch draws it and as it should be, and the whole pictures."""
    device, seeds = prior.mean_latent.device, range(SHOWN)
    z = normal(seeds, (prior.config.z_dim,), "grid").to(device)
    noise = [normal(seeds, (1, side, side), f"grid{i}").to(device) for i, side in enumerate(prior.noise_sizes)]
    with evaluating(branches):
        maps, whole = imagine(prior, z, noise, recipe.branches.sides)
        made, wanted = branches(maps), targets(whole, recipe.branches.sides)
    size = min(whole.shape[-1], 256)
    rows = [x for side in made for x in (made[side], wanted[side])]
    return torch.cat([F.interpolate(x, (size, size), mode="nearest") for x in (*rows, whole)]).clamp(0, 1)


def export(average: SideOutputs, prior: Any, recipe: Recipe, run: Run) -> Path:
    """Write the averaged branches as a self-describing half-precision file, bound to the prior; of paths it keeps the names."""
    path = run.folder / "side-output.safetensors"
    if run.accelerator.is_main_process:
        names = {key: Path(getattr(recipe, key)).name for key in ("prior", "feature_weights")}
        about = asdict(replace(recipe, out="", prior=names["prior"])) | {"feature_weights": names["feature_weights"]}
        trained: dict[str, Any] = {"images_seen": run.progress.images, "recipe": about, "data": []}
        seen = (recipe.features,) if recipe.perceptual else ()
        save_prior(path, average, trained, looked_through=seen, bound_to=prior)
    run.accelerator.wait_for_everyone()
    return path


def describe(recipe: Recipe) -> str:
    """Sizes of the branches that the recipe would train, without needing the prior."""
    with torch.device("meta"):
        g, *_ = build_run(recipe)
    lines = [
        f"{side} px: {sum(p.numel() for p in branch.parameters()):,} parameters"
        for side, branch in zip(recipe.branches.sides, g.children(), strict=True)
    ]
    return "\n".join([*lines, f"together: {sum(p.numel() for p in g.parameters()):,} parameters"])
