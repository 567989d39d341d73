"""Train a flow, a face prior that moves noise to pictures in a few steps. One readable script.

Flow matching (Lipman et al., ICLR 2023; Liu et al., ICLR 2023): a picture x and noise e make x_t = (1 - t) x + t e, and the network
learns e - x, the velocity of x_t, wherever it stands.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from preimage.declaration import declared
from preimage.errors import RecipeError
from preimage.generate.cascade import Cascade, join
from preimage.generate.flow import Flow, FlowSynthesis
from preimage.seeds import normal
from preimage.train.data import held_back, to_tensor
from preimage.train.flow_settings import Recipe as Recipe
from preimage.train.loop import average_decay, evaluating, every, set_rates, update_average
from preimage.train.second import load_real, load_second, together
from preimage.train.start import start_accelerator, start_run
from preimage.weights import load_prior

SAMPLE = 8192  # pictures that say how loud each frequency is
MAY_CHANGE = ("images", "snapshot", "log", "data", "out", "precision", "second", "lr", "decay_from", "name", "init")


def build_run(recipe: Recipe, pictures: Tensor | None = None) -> tuple[Flow, None, torch.optim.Optimizer, None]:
    """The flow and its optimiser, as a run starts with them, for pictures (n, 3, R, R) such as these; nobody judges."""
    g = Flow(recipe.generator, recipe.name)
    if recipe.init:
        g.synthesis.velocity.load_state_dict(synthesis_of(recipe).velocity.state_dict())
    if pictures is not None:
        g.synthesis.calibrate(pictures)
    rates = {"lr": recipe.lr, "betas": recipe.betas, "weight_decay": recipe.weight_decay}
    return g, None, torch.optim.AdamW(g.parameters(), **rates), None  # type: ignore[arg-type]


def synthesis_of(recipe: Recipe) -> FlowSynthesis:
    """The flow to start from, which may be the first of a cascade.

    Raises:
        RecipeError: another network, or a flow of another shape; only times, whitening and variation may differ.
    """
    found: Any = load_prior(recipe.init)
    part = found.synthesis.first if isinstance(found, Cascade) else found.synthesis if isinstance(found, Flow) else None
    own = recipe.generator
    if (
        not isinstance(part, FlowSynthesis)
        or replace(part.config, times=own.times, whitening=own.whitening, variation=own.variation) != recipe.generator
    ):
        raise RecipeError(
            f"init: {recipe.init} is no flow of the shape under `generator:`; make them equal, times, whitening and variation excepted."
        )
    return part


def rate(recipe: Recipe, images: int) -> float:
    """Learning rate after so many pictures: a rise, a plain, and half a cosine down to zero."""
    done = images / recipe.images
    beyond = max(0.0, done - recipe.decay_from) / max(1 - recipe.decay_from, 1e-9)
    return recipe.lr * min(1.0, images / recipe.warm_up) * 0.5 * (1 + math.cos(math.pi * min(1.0, beyond)))


def paired(pictures: Tensor, noise: Tensor) -> Tensor:
    """The noise in the order in which the squared distances to the pictures are least in sum, both (n, 3, R, R)."""
    from scipy.optimize import linear_sum_assignment

    apart = torch.cdist(pictures.flatten(1), noise.flatten(1)).square()
    _, places = linear_sum_assignment(apart.cpu().numpy())
    return noise[torch.from_numpy(places).to(noise.device)]


def between(pictures: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t: pictures at t = 0, noise at t = 1, in a straight line."""
    return torch.lerp(pictures, noise, t[:, None, None, None])


def matching(g: FlowSynthesis, pictures: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Mean squared error of the velocity at x_t, (n,)."""
    velocity: Tensor = g.velocity(between(pictures, noise, t), t)
    return (velocity.float() - (noise - pictures)).square().mean((1, 2, 3))


def train(recipe: Recipe, resume: str = "auto", stop_after: float | None = None) -> Path:
    """Train, or go on training, and export the averaged flow.

    Args:
        recipe: settings.
        resume: "auto" continues the run in `recipe.out`; "never" insists on a new one.
        stop_after: seconds after which to save and return early; the same call continues.

    Returns:
        The exported prior, `<out>/prior.safetensors` (half precision).
    """
    accelerator, n = start_accelerator(recipe.batch)
    device, second = accelerator.device, load_second(recipe)
    pictures = load_real(recipe, second, accelerator.is_main_process)
    where = held_back(len(pictures), recipe.hold)
    pictures, held = pictures[~where], to_tensor(np.ascontiguousarray(pictures[where]), device)
    sample = to_tensor(np.ascontiguousarray(pictures[:: max(1, len(pictures) // SAMPLE)]))
    players = start_run(accelerator, recipe, partial(build_run, pictures=sample), resume, MAY_CHANGE)
    run, g, _, opt, _, average = players.parts
    synthesis: FlowSynthesis = g.synthesis
    stream, autocast = players.stream(pictures, n, recipe.seed), players.autocast(recipe.precision)
    path = run.folder / "prior.safetensors"

    while run.progress.images < recipe.images:
        set_rates((opt,), (rate(recipe, run.progress.images),))
        real = synthesis.whitened(next(stream))
        noise = torch.randn_like(real)
        noise = paired(real, noise) if recipe.coupling else noise
        t = torch.sigmoid(torch.randn(n, device=device) * recipe.time_spread + recipe.time_mean)
        with torch.autocast(**autocast):
            loss = matching(synthesis, real, noise, t).mean()
        opt.zero_grad(set_to_none=True)
        accelerator.backward(loss)
        players.update(g, opt, recipe.clip)

        before = run.progress.images
        run.progress.images += recipe.batch
        update_average(average, g, average_decay(recipe.batch, run.progress.images, recipe.ema_half_life, ramp=0.1))
        run.add(loss=loss.detach())
        ended = run.progress.images >= recipe.images
        due = ended or every(recipe.log, before, run.progress.images)
        if due and len(held):
            run.add(loss_held=held_loss(average.synthesis, held, recipe))
        stop = due and run.report(stop_after)
        if stop or ended or every(recipe.snapshot, before, run.progress.images):
            exported: Any = copy.deepcopy(average).cpu().float()
            exported.refit()
            exported.match(sample)
            looked: tuple[str, ...] | None = ()
            if second is not None:
                exported, looked = join(exported, second, recipe.name), together((), declared(second))
            run.snapshot(exported.sample(range(32)))
            about = replace(recipe, init=Path(recipe.init).name)
            path = run.export(exported, about, looked_through=looked)
        if stop:
            break
    return path


def held_loss(average: FlowSynthesis, held: Tensor, recipe: Recipe) -> Tensor:
    """The loss of flow matching on pictures that are held back, at the same noise and times whenever it is asked."""
    numbers = range(len(held))
    noise = normal(numbers, held.shape[1:], "held").to(held.device)
    t = torch.sigmoid(normal(numbers, (), "times").to(held.device) * recipe.time_spread + recipe.time_mean)
    with evaluating(average):
        return matching(average, average.whitened(held), noise, t).mean()


def describe(recipe: Recipe) -> str:
    """Sizes of the networks that the recipe would train, without needing its data."""
    network: nn.Module = Flow(recipe.generator).synthesis.velocity
    return f"velocity: {sum(p.numel() for p in network.parameters()):,} parameters"
