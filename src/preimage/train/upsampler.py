"""Train a network that enlarges a photo in one pass: SSRVAE's (Ma et al., 2019, section 3.2) or a baseline of its tables.

L1 on pairs of which a degradation makes the small side (`train.degrader`); for SRGAN an adversarial loss beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.declaration import declared, remember
from preimage.errors import RecipeError
from preimage.nets.attention import AttentionConfig, AttentionNetwork
from preimage.nets.baselines import (
    EDSR,
    RDN,
    SRCNN,
    EDSRConfig,
    RDNConfig,
    SRCNNConfig,
    SRGANDiscriminator,
    SRResNet,
    SRResNetConfig,
)
from preimage.nets.upscaler import Upscaler, bicubic
from preimage.train import losses
from preimage.train.data import Pictures, held_back, load_pictures, plain_source, to_tensor
from preimage.train.degrader import Degrader, make_degrader
from preimage.train.loop import Run, evaluating, every, set_rates, stepped, update_average
from preimage.train.start import start_accelerator, start_run
from preimage.train.upsampler_settings import Recipe as Recipe
from preimage.weight_files import save_prior
from preimage.weights import load_upsampler

SHOWN = 8  # faces in a grid
MAY_CHANGE = ("images", "lr_steps", "snapshot", "log", "data", "out", "precision", "styles")
NETWORKS: Mapping[type, Callable[..., Upscaler]] = {
    AttentionConfig: AttentionNetwork, SRCNNConfig: SRCNN, EDSRConfig: EDSR, RDNConfig: RDN, SRResNetConfig: SRResNet,
}  # fmt: skip


def build_run(
    recipe: Recipe,
) -> tuple[Upscaler, SRGANDiscriminator | None, torch.optim.Optimizer, torch.optim.Optimizer | None]:
    """The network, its discriminator if it has one, and their optimisers, as a run starts with them."""
    g = NETWORKS[type(recipe.generator)](recipe.generator, recipe.name)
    if recipe.init:
        inherit(g, load_upsampler(recipe.init))
    opt_g = torch.optim.Adam(g.parameters(), lr=recipe.lr_g, betas=recipe.betas)
    if not recipe.adversary:
        return g, None, opt_g, None
    d = SRGANDiscriminator(recipe.seen, recipe.discriminator)
    return g, d, opt_g, torch.optim.Adam(d.parameters(), lr=recipe.lr_d, betas=recipe.betas)


def inherit(g: Upscaler, start: Any) -> None:
    """Give a network the weights of another of its shape, and what that one declares to have looked through.

    Raises:
        RecipeError: one of another shape; only the size of the photos may differ.
    """
    had = getattr(start, "config", None)
    if not isinstance(start, type(g)) or replace(cast(Any, had), lr_size=g.config.lr_size) != g.config:
        raise RecipeError(f"init: {start.name} has the shape {had}, and the recipe has {g.config}; make them equal.")
    g.load_state_dict(start.state_dict())
    remember(g, declared(start))


def train(recipe: Recipe, resume: str = "auto", stop_after: float | None = None) -> Path:
    """Train, or go on training, and export the averaged network.

    Args:
        recipe: settings.
        resume: "auto" continues the run in `recipe.out`; "never" insists on a new one.
        stop_after: seconds after which to save and return early; the same call continues.

    Returns:
        The exported network, `<out>/upsampler.safetensors` (half precision).
    """
    accelerator, n = start_accelerator(recipe.batch)
    shape = recipe.generator
    degrade = make_degrader(  # before anything is decoded
        recipe.degradation, shape.scale * shape.lr_size, shape.lr_size, corruptions=recipe.corruptions, styles=recipe.styles,
        native=recipe.native, device=accelerator.device,
    )  # fmt: skip
    pictures = load_pictures(recipe.data, shape.scale * shape.lr_size, progress=accelerator.is_main_process)
    where = held_back(len(pictures), recipe.hold)
    pictures, held = pictures[~where], pictures[where]
    players = start_run(accelerator, recipe, build_run, resume, MAY_CHANGE)
    run, g, d, opt_g, opt_d, average = players.parts
    stream, autocast = players.stream(pictures, n, recipe.seed), players.autocast(recipe.precision)
    path = run.folder / "upsampler.safetensors"

    while run.progress.images < recipe.images:
        rates = stepped(recipe.lr_g, recipe.lr_d, recipe.lr_steps, run.progress.images)
        set_rates((opt_g,) if opt_d is None else (opt_g, opt_d), rates[: 1 if opt_d is None else 2])
        hr = next(stream).contiguous(memory_format=torch.channels_last)
        lr = degrade(hr)
        if recipe.crop:
            hr, lr = cropped(hr, lr, recipe.crop)
        with torch.autocast(**autocast):
            made = g(lr)
        l1 = F.l1_loss(made, hr)
        value = l1

        if d is not None and run.progress.images >= recipe.adversary_start:
            (seen,), (real,) = d.project(made), d.project(hr)
            with torch.autocast(**autocast):
                value_d = losses.nonsaturating_d(d([real]), d([seen.detach()]))
            opt_d.zero_grad(set_to_none=True)
            accelerator.backward(value_d)
            players.update(d, opt_d)
            d.requires_grad_(False)
            with torch.autocast(**autocast):
                gan = losses.nonsaturating_g(d([seen]))
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
        run.add(l1=l1.detach(), loss_g=value.detach())
        ended = run.progress.images >= recipe.images
        due = ended or every(recipe.log, before, run.progress.images)
        if due:
            found, plain = held_psnr(average, held, degrade, recipe)
            run.add(psnr_held=found, psnr_bicubic=plain)
        stop = due and run.report(stop_after)
        if stop or ended or every(recipe.snapshot, before, run.progress.images):
            run.snapshot(grid(average, held, degrade, recipe), SHOWN, cell=96)
            path = export(average, recipe, run, degrade.name)
        if stop:
            break
    return path


def cropped(faces: Tensor, photos: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The same square of each face and of its photo, drawn from torch's own generator for each of them.

    Args:
        faces, photos: (n, 3, R, R) and (n, 3, r, r), R a multiple of r.
        side: of the squares of photos.
    """
    factor, places = faces.shape[-1] // photos.shape[-1], photos.shape[-1] - side + 1
    corners = torch.randint(places, (len(photos), 2)).tolist()

    def squares(pictures: Tensor, times: int) -> Tensor:
        length = times * side
        each = zip(pictures, corners, strict=True)
        found = [x[:, times * y : times * y + length, times * z : times * z + length] for x, (y, z) in each]
        return torch.stack(found).contiguous(memory_format=torch.channels_last)

    return squares(faces, factor), squares(photos, 1)


def photos_of(held: Pictures, degrade: Degrader, recipe: Recipe, model: Upscaler) -> tuple[Tensor, Tensor]:
    """Faces that are held back and their photos, always the same; what the run draws is not disturbed."""
    device = next(model.parameters()).device
    faces = to_tensor(np.ascontiguousarray(held), device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(recipe.seed)
        return faces, degrade(faces)


def held_psnr(model: Upscaler, held: Pictures, degrade: Degrader, recipe: Recipe) -> tuple[float, float]:
    """Mean PSNR in dB, over RGB, of faces that are held back: of the network's pictures and of bicubic enlargements."""
    faces, photos = photos_of(held, degrade, recipe, model)
    with evaluating(model):
        made = torch.cat([model(part) for part in photos.split(recipe.batch)])
    plain = bicubic(photos, model.scale)
    found = [(x.clamp(0, 1) - faces).square().mean((1, 2, 3)).clamp_min(1e-10).log10().mean() for x in (made, plain)]
    return float(-10 * found[0]), float(-10 * found[1])


def grid(model: Upscaler, held: Pictures, degrade: Degrader, recipe: Recipe) -> Tensor:
    """Rows of `SHOWN`: photos, bicubic enlargements, the network's pictures, the faces."""
    chosen = np.linspace(0, len(held) - 1, SHOWN).round().astype(int)
    faces, photos = photos_of(held[chosen], degrade, recipe, model)
    with evaluating(model):
        made = model(photos)
    plain = F.interpolate(photos, faces.shape[-2:], mode="nearest")
    return torch.cat([plain, bicubic(photos, model.scale), made, faces]).clamp(0, 1)


def export(average: Upscaler, recipe: Recipe, run: Run, taken_by: str) -> Path:
    """Write the averaged network as a self-describing half-precision file; of paths it keeps the names.

    Args:
        average, recipe, run: of the training.
        taken_by: name of what made the photos.
    """
    path = run.folder / "upsampler.safetensors"
    if run.accelerator.is_main_process:
        data, styles = ([plain_source(s) for s in paths] for paths in (recipe.data, recipe.styles))
        degradation, init = Path(recipe.degradation).name, Path(recipe.init).name
        about = asdict(replace(recipe, out="", data=data, styles=styles, degradation=degradation, init=init))
        trained: dict[str, Any] = {"images_seen": run.progress.images, "recipe": about, "data": [*data, *styles]}
        save_prior(path, average, trained, degradations=(taken_by,), looked_through=())
    run.accelerator.wait_for_everyone()
    return path


def describe(recipe: Recipe) -> str:
    """Sizes of the networks that the recipe would train, without needing its data."""
    with torch.device("meta"):
        g, d, *_ = build_run(replace(recipe, init=""))
    parts = {g.architecture: g} | ({} if d is None else {"discriminator": d})
    return "\n".join(
        f"{name}: {sum(p.numel() for p in part.parameters()):,} parameters" for name, part in parts.items()
    )
