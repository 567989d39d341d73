"""Train a segmenter: the regions of a face from photos of several sizes (DeepSEE, Bühler et al., 2020, section 4.2).

Cross entropy, weighted by label, and soft Dice, on pairs of a face and its map that are moved together; a degradation makes the photo.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.declaration import declared, remember
from preimage.errors import RecipeError
from preimage.nets.segmenter import Segmenter, brought_to
from preimage.semantics.agreement import Agreement, agreement, confusion
from preimage.semantics.labels import NUMBER, coloured, one_hot
from preimage.semantics.segment import segment
from preimage.train.augment import colour
from preimage.train.data import Pictures, held_back, order, plain_source, to_tensor
from preimage.train.degrader import make_degrader
from preimage.train.loop import Run, evaluating, every, set_rates, update_average
from preimage.train.masks import Masks, jitter, load_pairs, pairs
from preimage.train.segmenter_settings import Recipe as Recipe
from preimage.train.start import start_accelerator, start_run
from preimage.weight_files import save_prior
from preimage.weights import load_network

SHOWN = 8  # faces in a grid
MAY_CHANGE = ("images", "snapshot", "log", "data", "out", "precision")
Photographers = Mapping[int, Callable[[Tensor], Tensor]]
"""By the side of the photos, what makes them."""


def build_run(recipe: Recipe) -> tuple[Segmenter, None, torch.optim.Optimizer, None]:
    """The network and its optimiser, as a run starts with them; there is no discriminator."""
    network = Segmenter(recipe.generator, recipe.name)
    if recipe.init:
        start = load_network(recipe.init, "segmenter")
        if getattr(start, "config", None) != recipe.generator:
            raise RecipeError(f"init: {recipe.init} has another shape than the recipe's generator; make them equal.")
        network.load_state_dict(start.state_dict())
        remember(network, declared(start))
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.lr, betas=recipe.betas, weight_decay=recipe.weight_decay
    )
    return network, None, optimiser, None


def photographers(recipe: Recipe) -> Photographers:
    """What makes the photos of each size; at the size of the faces they are the faces."""
    side = recipe.generator.hr_size
    make = partial(make_degrader, recipe.degradation, side, corruptions=recipe.corruptions)
    return {size: (lambda faces: faces) if size == side else make(size) for size in recipe.sizes}


def photographed(faces: Tensor, take: Photographers) -> Tensor:
    """Photos of a random size each, brought back to the faces' side, as a segmenter sees them: (n, 3, S, S)."""
    sides = torch.tensor(list(take))[torch.randint(len(take), (len(faces),))]
    out = torch.empty_like(faces)
    for side in sides.unique().tolist():
        chosen = (sides == side).to(faces.device)
        out[chosen] = brought_to(take[side](faces[chosen]), faces.shape[-1])
    return out


def weights_of(masks: Masks, balance: float) -> Tensor:
    """Weight of each label, from its share of all pixels; the mean over pixels is 1."""
    share = torch.from_numpy(np.bincount(masks.reshape(-1), minlength=NUMBER)).double() / masks.size
    weights = share.clamp_min(1e-5) ** -balance
    return (weights / (weights * share).sum()).float()


def soft_dice(scores: Tensor, labels: Tensor) -> Tensor:
    """1 - Dice of the labels that are in the batch, mean over them; probabilities (n, labels, h, w) of scores against a map (n, h, w)."""
    probable, true = scores.softmax(1), one_hot(labels)
    both, each = (probable * true).sum((0, 2, 3)), (probable + true).sum((0, 2, 3))
    present = true.sum((0, 2, 3)) > 0
    return (1 - 2 * both / each.clamp_min(1e-6))[present].mean()


def train(recipe: Recipe, resume: str = "auto", stop_after: float | None = None) -> Path:
    """Train, or go on training, and export the averaged network.

    Args:
        recipe: settings.
        resume: "auto" continues the run in `recipe.out`; "never" insists on a new one.
        stop_after: seconds after which to save and return early; the same call continues.

    Returns:
        The exported network, `<out>/segmenter.safetensors` (half precision).
    """
    accelerator, n = start_accelerator(recipe.batch)
    take = photographers(recipe)  # before anything is decoded
    pictures, masks = load_pairs(recipe.data, recipe.generator.hr_size, progress=accelerator.is_main_process)
    where = held_back(len(pictures), recipe.hold)
    held, (pictures, masks) = (pictures[where], masks[where]), (pictures[~where], masks[~where])
    players = start_run(accelerator, recipe, build_run, resume, MAY_CHANGE)
    run, network, _, optimiser, _, average = players.parts
    device, autocast = accelerator.device, players.autocast(recipe.precision)
    chosen = order(
        len(pictures), recipe.seed, run.progress.images, accelerator.process_index, accelerator.num_processes
    )
    stream, weights = pairs(pictures, masks, n, chosen, device), weights_of(masks, recipe.balance).to(device)
    path = run.folder / "segmenter.safetensors"

    while run.progress.images < recipe.images:
        left = 1 - run.progress.images / recipe.images
        set_rates((optimiser,), (recipe.lr * left**recipe.power,))
        faces, labels = next(stream)
        faces, labels = jitter(faces, labels, recipe.turn, recipe.zoom, recipe.shift)
        if recipe.colour:
            share = recipe.colour * torch.rand(n, 1, 1, 1, device=device)
            faces = faces.lerp(colour(faces), share).clamp(0, 1)
        with torch.autocast(**autocast):
            scores = network(photographed(faces, take))
        entropy = F.cross_entropy(scores, labels, weights)
        dice = soft_dice(scores, labels)
        value = entropy + recipe.dice * dice
        optimiser.zero_grad(set_to_none=True)
        accelerator.backward(value)
        players.update(network, optimiser)

        before = run.progress.images
        run.progress.images += recipe.batch
        steps = run.progress.images // recipe.batch
        update_average(average, network, min(recipe.ema, (1 + steps) / (10 + steps)))
        run.add(entropy=entropy.detach(), dice=dice.detach(), loss=value.detach())
        ended = run.progress.images >= recipe.images
        due = ended or every(recipe.log, before, run.progress.images)
        if due:
            for side in take:
                found = judged(average, *held, take[side], recipe)
                run.add(**{f"miou_{side}": found.mean_iou, f"accuracy_{side}": found.accuracy})
        stop = due and run.report(stop_after)
        if stop or ended or every(recipe.snapshot, before, run.progress.images):
            run.snapshot(grid(average, *held, take, recipe), SHOWN, cell=96)
            path = export(average, recipe, run)
        if stop:
            break
    return path


def photos_of(pictures: Pictures, take: Callable[[Tensor], Tensor], recipe: Recipe, device: torch.device) -> Tensor:
    """Photos of faces that are held back, always the same; what the run draws is not disturbed."""
    faces = to_tensor(np.ascontiguousarray(pictures), device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(recipe.seed)
        return take(faces)


def judged(
    model: Segmenter, pictures: Pictures, masks: Masks, take: Callable[[Tensor], Tensor], recipe: Recipe
) -> Agreement:
    """How well the network finds the maps of faces in their photos; without the mirrored ones, for speed."""
    device = next(model.parameters()).device
    with evaluating(model):
        found = segment(model, photos_of(pictures, take, recipe, device), mirrored=False)
    return agreement(confusion(found.cpu(), torch.from_numpy(np.array(masks))))


def grid(model: Segmenter, pictures: Pictures, masks: Masks, take: Photographers, recipe: Recipe) -> Tensor:
    """Rows of `SHOWN`: photos of each size and the regions found in them, then the faces and their maps."""
    device, rows = next(model.parameters()).device, list[Tensor]()
    chosen = np.linspace(0, len(pictures) - 1, SHOWN).round().astype(int)
    faces = to_tensor(pictures[chosen], device)
    with evaluating(model):
        for photograph in take.values():
            photos = photos_of(pictures[chosen], photograph, recipe, device)
            rows += [F.interpolate(photos, faces.shape[-2:], mode="nearest"), coloured(segment(model, photos))]
    return torch.cat([*rows, faces, coloured(torch.from_numpy(masks[chosen]).to(device))]).clamp(0, 1)


def export(average: Segmenter, recipe: Recipe, run: Run) -> Path:
    """Write the averaged network as a self-describing half-precision file; of paths it keeps the names."""
    path = run.folder / "segmenter.safetensors"
    if run.accelerator.is_main_process:
        data = [plain_source(s) for s in recipe.data]
        about = asdict(replace(recipe, out="", data=data, init=Path(recipe.init).name))
        trained: dict[str, Any] = {"images_seen": run.progress.images, "recipe": about, "data": data}
        save_prior(path, average, trained, degradations=(recipe.degradation,), looked_through=())
    run.accelerator.wait_for_everyone()
    return path


def describe(recipe: Recipe) -> str:
    """Size of the network that the recipe would train, without needing its data."""
    with torch.device("meta"):
        network, *_ = build_run(replace(recipe, init=""))
    return f"segmenter: {sum(p.numel() for p in network.parameters()):,} parameters"
