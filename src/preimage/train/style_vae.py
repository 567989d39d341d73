"""Train the styleVAE of SSRVAE (Ma et al., 2019, section 3.1): unpaired, sharp faces and natively small ones.

Equation 6: λ1 KL + λ2 reconstruction - λ3 I(small photo; result in its style). (Equation 3's sign is misprinted, and equation 5's second
expectation is over pairs of a small photo and a result.) The mutual information is found by MINE, so the styleVAE plays against nobody
and with T; a discriminator can be added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.declaration import declared, remember
from preimage.degrade.style_vae import StyleVAE, reduction
from preimage.errors import RecipeError
from preimage.nets.residual import ResidualDiscriminator
from preimage.train import losses
from preimage.train.augment import augment
from preimage.train.data import Pictures, batches, load_pictures, plain_source, to_tensor
from preimage.train.degradation_gan import mean_score
from preimage.train.loop import Run, evaluating, every, set_rates, stepped, update_average
from preimage.train.mine import MINE, PairStatistic
from preimage.train.small_faces import count_by_side, small_faces
from preimage.train.start import start_accelerator, start_run
from preimage.train.style_vae_settings import Critics as Critics
from preimage.train.style_vae_settings import Recipe as Recipe
from preimage.weight_files import save_prior
from preimage.weights import load_degradation

SHOWN = 8  # faces in a grid
DRAWN = 3  # rows of it in styles from the Gaussian
FLAT = 1e-5  # variance below which a channel tells nothing
MAY_CHANGE = ("images", "lr_steps", "snapshot", "log", "data", "real", "held", "out", "precision")


class Judges(nn.Module):
    """The discriminator and the estimator of the mutual information, which learn in one step."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        c = recipe.critics
        self.adversary = ResidualDiscriminator(recipe.generator.lr_size, c.widths, spectral=True)
        self.mine = MINE(PairStatistic(c.statistic), c.decay, c.bound, shifts=8)
        self.noise = c.noise

    @property
    def statistic(self) -> PairStatistic:
        return cast(PairStatistic, self.mine.statistic)

    def information(self, real: Tensor, made: Tensor, update: bool = False) -> tuple[Tensor, Tensor]:
        """Of small photos and results in their styles; see `MINE`."""
        seen = made + self.noise * torch.randn_like(made) if self.noise else made
        return self.mine(self.statistic.describe(real), self.statistic.describe(seen), update)


def build_run(recipe: Recipe) -> tuple[StyleVAE, Judges, torch.optim.Optimizer, torch.optim.Optimizer]:
    """The styleVAE, its critics and their optimisers, as a run starts with them."""
    g, d = StyleVAE(recipe.generator, recipe.name), Judges(recipe)
    if recipe.init:
        inherit(g, load_degradation(recipe.init))
    opt_g = torch.optim.Adam(g.parameters(), lr=recipe.lr_g, betas=recipe.betas)
    opt_d = torch.optim.Adam(d.parameters(), lr=recipe.lr_d, betas=recipe.betas)
    return g, d, opt_g, opt_d


def inherit(g: StyleVAE, start: Any) -> None:
    """Give a styleVAE the weights of another of its shape, and what that one declares to have looked through.

    Raises:
        RecipeError: another network, or one of another shape; only the sizes of pictures may differ.
    """
    had, sizes = getattr(start, "config", None), {"hr_size": g.config.hr_size, "lr_size": g.config.lr_size}
    if not isinstance(start, StyleVAE) or replace(start.config, **sizes) != g.config:
        raise RecipeError(f"init: {start.name} has the shape {had}, and the recipe has {g.config}; make them equal.")
    try:
        g.load_state_dict(start.state_dict())
    except RuntimeError:
        raise RecipeError(f"init: {start.name} halves its pictures another number of times: {had}.") from None
    remember(g, declared(start))


def divergence(mean: Tensor, log_spread: Tensor) -> Tensor:
    """Equation 3 with its sign put right: KL(N(μ, σ²) || N(0, 1)) in nats, added over z, mean over the batch."""
    each = mean.square() + (2 * log_spread).exp() - 1 - 2 * log_spread
    return each.sum(1).mean() / 2


def unexplained(made: Tensor, goal: Tensor) -> Tensor:
    """Squared error of the goal's best guess from what was made, a gain and an offset for each channel of each picture.

    Guessed in this direction, so that nothing is won by making less contrast.

    Args:
        made, goal: (n, 3, h, w).

    Returns:
        Sum over a picture, mean over the batch.
    """
    x, y = (t - t.mean((2, 3), keepdim=True) for t in (made.float(), goal.float()))
    told = (x * y).sum((2, 3)).clamp_min(0).square() / (x.square().sum((2, 3)) + FLAT * x[0, 0].numel())
    return (y.square().sum((2, 3)) - told).sum(1).mean()


def train(recipe: Recipe, resume: str = "auto", stop_after: float | None = None) -> Path:
    """Train, or go on training, and export the averaged styleVAE.

    Args:
        recipe: settings.
        resume: "auto" continues the run in `recipe.out`; "never" insists on a new one.
        stop_after: seconds after which to save and return early; the same call continues.

    Returns:
        The exported network, `<out>/degradation.safetensors` (half precision).
    """
    accelerator, n = start_accelerator(recipe.batch)
    shape = recipe.generator
    pictures = load_pictures(recipe.data, shape.hr_size, progress=accelerator.is_main_process)
    reals, sides = small_faces(recipe.real, shape.lr_size, recipe.native, recipe.crops, recipe.zoom, recipe.seed)
    held = small_faces(recipe.held, shape.lr_size, recipe.native)[0] if recipe.held else None
    accelerator.print(f"{len(pictures)} sharp faces; {count_by_side(sides)}", flush=True)
    players = start_run(accelerator, recipe, build_run, resume, MAY_CHANGE)
    run, g, d, opt_g, opt_d, average = players.parts
    sharp, small = players.stream(pictures, n, recipe.seed), players.stream(reals, n, recipe.seed + 1)
    autocast, reduce = players.autocast(recipe.precision), reduction(shape.hr_size, shape.lr_size)
    drawn = round(recipe.prior_share * n)
    path = run.folder / "degradation.safetensors"

    while run.progress.images < recipe.images:
        set_rates((opt_g, opt_d), stepped(recipe.lr_g, recipe.lr_d, recipe.lr_steps, run.progress.images))
        hr, real = next(sharp), next(small)
        with torch.autocast(**autocast):
            mean, log_spread = g.style(real)
            z = mean + log_spread.exp() * torch.randn_like(mean)
            z = torch.cat([z[drawn:], torch.randn_like(z[:drawn])])
            made = g(hr, z)
        styled = real[drawn:], made[: n - drawn]  # photos, and the results in their styles

        # both critics first, on what the styleVAE made; then it answers to them as they are now
        value_d = made.new_zeros(())
        if recipe.information:
            with torch.autocast(**autocast):
                value_d = value_d - d.information(styled[0], styled[1].detach(), update=True)[1]
        if recipe.adversary:
            (seen_real,), (seen_made,) = (d.adversary.project(augment(x, recipe.augment)) for x in (real, made))
            with torch.autocast(**autocast):
                scores_real, scores_made = d.adversary([seen_real]), d.adversary([seen_made.detach()])
            value_d = value_d + losses.hinge_d(scores_real, scores_made)
            run.add(score_real=scores_real[0].detach().mean(), score_made=scores_made[0].detach().mean())
        if value_d.requires_grad:
            opt_d.zero_grad(set_to_none=True)
            accelerator.backward(value_d)
            players.update(d, opt_d, recipe.clip)

        kl = divergence(mean, log_spread)
        goal = reduce(hr)
        rec = (
            unexplained(made, goal) if recipe.photometric else (made - goal).square().sum((1, 2, 3)).mean()
        )  # equation 4
        value_g = recipe.kl * kl + recipe.reconstruction * rec
        d.requires_grad_(False)
        if recipe.information:
            with torch.autocast(**autocast):
                information, objective = d.information(*styled)
            value_g = value_g - recipe.information * objective
            run.add(information=information)
        if recipe.adversary:
            with torch.autocast(**autocast):
                gan = losses.hinge_g(d.adversary([seen_made]))
            value_g = value_g + recipe.adversary * gan
            run.add(gan=gan.detach())
        opt_g.zero_grad(set_to_none=True)
        accelerator.backward(value_g)
        players.update(g, opt_g, recipe.clip)
        d.requires_grad_(True)

        before = run.progress.images
        run.progress.images += recipe.batch
        update_average(average, g, recipe.ema)
        run.add(loss_g=value_g.detach(), loss_d=value_d.detach(), kl=kl.detach(), reconstruction=rec.detach())
        ended = run.progress.images >= recipe.images
        due = ended or every(recipe.log, before, run.progress.images)
        if due:
            run.add(apart=apart(average, hr))
            if held is not None and recipe.adversary:
                seen = reals[:: recipe.crops]
                run.add(score_held=mean_score(d.adversary, held), score_seen=mean_score(d.adversary, seen))
        stop = due and run.report(stop_after)
        if stop or ended or every(recipe.snapshot, before, run.progress.images):
            average.calibrate(to_tensor(reals[:: recipe.crops], accelerator.device))
            run.snapshot(grid(average, pictures, reals[:: recipe.crops], recipe.seed), SHOWN, cell=96)
            path = export(average, recipe, run)
        if stop:
            break
    return path


@torch.no_grad()
def apart(model: StyleVAE, hr: Tensor) -> Tensor:
    """Mean absolute difference on [0, 1] between results of the same faces in two styles of the Gaussian."""
    first, second = (model(hr, z.to(hr.device)) for z in model.noise(range(2 * len(hr))).chunk(2))
    return (first - second).abs().mean()


def grid(model: StyleVAE, pictures: Pictures, reals: Pictures, seed: int) -> Tensor:
    """Rows of `SHOWN`: sharp faces, natively small ones, the former in the styles of the latter, in those of the Gaussian."""
    device = next(model.parameters()).device
    hr, real = (next(batches(p, SHOWN, seed)).to(device) for p in (pictures, reals))
    with evaluating(model):
        rows = [real, model(hr, model.style(real)[0])]
        rows += [model(hr, model.noise([noise] * SHOWN).to(device)) for noise in range(DRAWN)]
    return torch.cat([hr, *(F.interpolate(x, hr.shape[-2:], mode="nearest") for x in rows)]).clamp(0, 1)


def export(average: StyleVAE, recipe: Recipe, run: Run) -> Path:
    """Write the averaged styleVAE as a self-describing half-precision file; of paths it keeps the names."""
    path = run.folder / "degradation.safetensors"
    if run.accelerator.is_main_process:
        data, real, held = ([plain_source(s) for s in paths] for paths in (recipe.data, recipe.real, recipe.held))
        init = Path(recipe.init).name
        about = asdict(replace(recipe, out="", data=data, real=real, held=held, init=init))
        trained: dict[str, Any] = {"images_seen": run.progress.images, "recipe": about, "data": [*data, *real]}
        save_prior(path, average, trained, looked_through=())
    run.accelerator.wait_for_everyone()
    return path


def describe(recipe: Recipe) -> str:
    """Sizes of the networks that the recipe would train, without needing its data."""
    with torch.device("meta"):
        g, d, *_ = build_run(replace(recipe, init=""))
    parts: Sequence[tuple[str, nn.Module]] = (
        ("styleVAE", g), ("discriminator", d.adversary), ("statistic of the mutual information", d.statistic),
    )  # fmt: skip
    return "\n".join(f"{name}: {sum(p.numel() for p in part.parameters()):,} parameters" for name, part in parts)
