"""Train a StyleGAN2 prior, with StyleGAN2's own discriminator or with a projected one. One readable script.

Both players of a step share the same imagined pictures and the same fixed features: half the work of drawing them twice.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from preimage.declaration import declared, remember
from preimage.errors import RecipeError
from preimage.generate.cascade import join
from preimage.generate.style_prior import StylePrior
from preimage.generate.stylegan2 import StyleGAN2
from preimage.nets.discriminators import ProjectedDiscriminator, StyleGAN2Discriminator
from preimage.seeds import normal
from preimage.train import losses
from preimage.train.ada import OverfittingControl
from preimage.train.augment import augment
from preimage.train.discriminator import make_discriminator
from preimage.train.loop import average_decay, compiled, evaluating, every, set_rates, update_average
from preimage.train.second import load_real, load_second, together
from preimage.train.start import start_accelerator, start_run
from preimage.train.stylegan2_settings import LOSSES, DiscriminatorSettings, Recipe, lazy, rates
from preimage.weights import load_prior

__all__ = ["DiscriminatorSettings", "Recipe", "describe", "train"]

Discriminator = StyleGAN2Discriminator | ProjectedDiscriminator


def build_discriminator(recipe: Recipe) -> Discriminator:
    """The discriminator that the recipe names.

    Raises:
        RecipeError: a projected one without the file of its feature network.
    """
    return make_discriminator(recipe.discriminator, recipe.generator.resolution)


def build_run(recipe: Recipe) -> tuple[StyleGAN2, Discriminator, torch.optim.Optimizer, torch.optim.Optimizer]:
    """Generator, discriminator and their optimisers, as a run starts with them."""
    g, d = StyleGAN2(recipe.generator, recipe.name), build_discriminator(recipe)
    if recipe.init:
        start = load_prior(recipe.init)
        grow(g, start, recipe.init)
        remember(g, declared(start))
    opt_g, opt_d = (
        torch.optim.Adam(
            network.parameters(), lr=rate, betas=(recipe.betas[0] ** power, recipe.betas[1] ** power), eps=1e-8
        )
        for network, rate, power in zip((g, d), rates(recipe, 0), lazy(recipe), strict=True)
    )
    return g, d, opt_g, opt_d


@torch.no_grad()
def grow(g: StyleGAN2, start: nn.Module, name: str) -> None:
    """Give a generator the weights of one of its shape, or of a smaller side: what is new adds nothing to the picture at first.

    Skip-RGB pictures (StyleGAN2, section 4.1) make that a copy: the new blocks' RGB is zero, and the picture the old one, enlarged.

    Raises:
        RecipeError: another shape.
    """
    side = start.config.resolution if isinstance(start, StyleGAN2) else 0
    if not isinstance(start, StyleGAN2) or replace(start.config, resolution=g.resolution) != g.config:
        raise RecipeError(
            f"init: {name} is not a StyleGAN2 of the shape under `generator:`, or of that shape and fewer pixels; make them equal."
        )
    if side > g.resolution:
        raise RecipeError(f"init: {name} makes pictures of {side} px, which cannot shrink to {g.resolution}.")
    g.load_state_dict(start.state_dict(), strict=False)
    for larger in g.config.resolutions:
        if larger > side:
            g.get_parameter(f"synthesis.b{larger}.torgb.weight").zero_()
            g.get_parameter(f"synthesis.b{larger}.torgb.bias").zero_()


class Imagine(nn.Module):
    """z -> picture as the trainer draws it: style mixing, fresh noise, a running mean of w."""

    def __init__(self, generator: StyleGAN2, style_mixing: float, dtype: torch.dtype, compile: bool):
        super().__init__()
        self.generator, self.style_mixing, self.dtype = generator, style_mixing, dtype
        self._synthesis = [compiled(generator.synthesis, compile)]  # in a list: not a second submodule

    def forward(self, z: Tensor, twice: bool = False) -> tuple[Tensor, Tensor]:
        """z (2, n, z_dim), the second half for mixing -> pictures (n, 3, R, R) around [0, 1], and their W+ latents.

        twice: the pictures will be differentiated twice, which compiled networks cannot be.
        """
        g, n = self.generator, z.shape[1]
        w, other = g.mapping(z[0]), g.mapping(z[1])
        if self.training:
            g.mapping.get_buffer("w_avg").lerp_(w.detach().mean(0), 0.002)
        rows = torch.arange(g.config.rows, device=z.device)
        crossover = torch.randint(1, g.config.rows, (n, 1), device=z.device)
        mixed = (torch.rand(n, 1, device=z.device) < self.style_mixing) & (rows[None] >= crossover)
        ws = torch.where(mixed[:, :, None], other[:, None], w[:, None])
        noise = [torch.randn(n, 1, s, s, device=z.device) for s in g.noise_sizes]
        synthesis = g.synthesis if twice else self._synthesis[0]
        picture: Tensor = synthesis(ws, noise, self.dtype)[-1]
        return (picture + 1) / 2, ws


def train(recipe: Recipe, resume: str = "auto", stop_after: float | None = None) -> Path:
    """Train, or go on training, and export the averaged generator.

    Args:
        recipe: settings.
        resume: "auto" continues the run in `recipe.out`; "never" insists on a new one.
        stop_after: seconds after which to save and return early; the same call continues.

    Returns:
        The exported prior, `<out>/prior.safetensors` (half precision).
    """
    accelerator, per_process = start_accelerator(recipe.batch)
    device = accelerator.device
    second = load_second(recipe)
    pictures = load_real(recipe, second, accelerator.is_main_process)
    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    control = OverfittingControl(recipe.augment_probability, recipe.ada_target, recipe.ada_images)
    lengths = MeanLength()
    made: list[Imagine] = []

    def wrap(g: StyleGAN2) -> Imagine:
        made.append(Imagine(g, recipe.style_mixing, dtype, recipe.compile))
        return made[0]

    players = start_run(
        accelerator, recipe, build_run, resume,
        ("images", "snapshot", "log", "compile", "data", "out", "lr_steps", "precision", "second", "name"),
        calibrate=pictures if recipe.discriminator.kind != "stylegan2" else None, wrap=wrap, also=(control, lengths),
    )  # fmt: skip
    (run, g, d, opt_g, opt_d, average), (imagine,) = players.parts, made
    # not torch.Generator(seed): its first numbers are the initial weights of the mapping network, an unfair sample
    z_grid = normal(range(32), (recipe.generator.z_dim,), "grid").to(device)
    noise_grid = [normal(range(32), (1, side, side), f"grid{side}").to(device) for side in g.noise_sizes]
    stream = players.stream(pictures, per_process, recipe.seed)
    loss_d, loss_g = LOSSES[recipe.discriminator.loss]
    autocast = players.autocast(recipe.precision)
    project = compiled(d.project, recipe.compile and isinstance(d, ProjectedDiscriminator))
    gamma, interval = recipe.discriminator.r1_gamma, recipe.discriminator.r1_every
    path = run.folder / "prior.safetensors"
    signs: list[Tensor] = []

    def changed(x: Tensor) -> Tensor:
        return augment(x, recipe.augment, control.p)

    def latents(count: int) -> Tensor:
        return torch.randn(2, count, recipe.generator.z_dim, device=device)

    while run.progress.images < recipe.images:
        real = changed(next(stream))
        step = run.progress.images // recipe.batch
        speeds = rates(recipe, run.progress.images)
        set_rates((opt_g, opt_d), speeds)
        moves = speeds[0] > 0  # else the discriminator learns alone

        with torch.autocast(**autocast):
            with torch.set_grad_enabled(moves):
                imagined = project(changed(imagine(latents(per_process))[0]))
            with torch.no_grad():
                projected = project(real)
            scores_real, scores_fake = d(projected), d([p.detach() for p in imagined])
            value_d = loss_d(scores_real, scores_fake)
        opt_d.zero_grad(set_to_none=True)
        accelerator.backward(value_d)
        if gamma and step % interval == 0:
            real.requires_grad_(True)
            penalty = losses.r1_penalty(real, d.penalised(real))
            accelerator.backward(penalty * (gamma / 2 * interval))
            run.add(r1=penalty.detach())
        players.update(d, opt_d)

        if moves:
            d.requires_grad_(False)
            with torch.autocast(**autocast):
                value_g = loss_g(d(imagined))
            opt_g.zero_grad(set_to_none=True)
            accelerator.backward(value_g)
            if recipe.path_length and step % recipe.path_length_every == 0:
                with torch.autocast(**autocast):
                    drawn, ws = imagine(latents(max(1, per_process // recipe.path_length_shrink)), twice=True)
                found = losses.path_lengths(drawn, ws)
                mean = lengths.update(accelerator.reduce(found.detach().mean(), "mean"))
                penalty = (found - mean).square().mean()
                accelerator.backward(penalty * (recipe.path_length * recipe.path_length_every))
                run.add(path_length=mean, path_penalty=penalty.detach())
            players.update(g, opt_g)
            d.requires_grad_(True)
            run.add(loss_g=value_g.detach())

        before = run.progress.images
        run.progress.images += recipe.batch
        update_average(average, g, average_decay(recipe.batch, run.progress.images, recipe.ema_half_life))
        run.add(
            loss_d=value_d.detach(),
            score_real=torch.stack([s.detach().mean() for s in scores_real]).mean(),
            score_fake=torch.stack([s.detach().mean() for s in scores_fake]).mean(),
        )
        if recipe.ada_target:
            signs.append(torch.stack([s.detach().sign().mean() for s in scores_real]).mean())
            if len(signs) == recipe.ada_every:
                sign = accelerator.reduce(torch.stack(signs).mean(), "mean")
                control.update(float(sign), len(signs) * recipe.batch)
                run.add(augment=control.p, sign=control.sign)
                signs.clear()
        done = run.progress.images >= recipe.images
        stop = every(recipe.log, before, run.progress.images) and run.report(stop_after)
        if stop or done or every(recipe.snapshot, before, run.progress.images):
            exported: StylePrior = copy.deepcopy(average).cpu().float()
            d_settings = recipe.discriminator
            seen: tuple[str, ...] | None = (d_settings.features,) if d_settings.kind != "stylegan2" else ()
            if second is None:
                exported.refit()
                with evaluating(average):
                    ws = average.mapping(z_grid)[:, None].expand(-1, recipe.generator.rows, -1)
                    grid = average.synthesize(ws, noise_grid).clamp(0, 1)
            else:
                exported = join(cast(StyleGAN2, exported), second, recipe.name)
                seen = together(seen or (), declared(second))
                grid = exported.sample(range(32))
            run.snapshot(grid)
            weights = Path(d_settings.feature_weights).name  # nobody's folders
            path = run.export(
                exported,
                replace(recipe, discriminator=replace(d_settings, feature_weights=weights)),
                looked_through=seen,
            )
        if stop:
            break
    return path


class MeanLength:
    """Running mean of the path lengths, `a` of StyleGAN2's equation 4."""

    def __init__(self) -> None:
        self.value = 0.0

    def update(self, length: Tensor, share: float = 0.01) -> float:
        """Move by `share` towards a batch's mean length; returns the mean."""
        self.value += share * (float(length) - self.value)
        return self.value

    def state_dict(self) -> dict[str, float]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.value = state["value"]


def describe(recipe: Recipe) -> str:
    """Sizes of the networks that the recipe would train, without needing its data."""
    g = StyleGAN2(recipe.generator)
    parts = {"mapping": g.mapping, "synthesis": g.synthesis}
    lines = [f"{name}: {sum(p.numel() for p in module.parameters()):,} parameters" for name, module in parts.items()]
    return "\n".join(lines)
