"""DeepSEE's players: its network, the discriminators, and what is measured on a network once it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from preimage.declaration import declared, remember
from preimage.errors import RecipeError
from preimage.invert.deepsee_answers import TIED, answer, downscaling, mask_of
from preimage.nets.deepsee import DeepSEENetwork
from preimage.nets.discriminators import ProjectedDiscriminator
from preimage.nets.feature_network import FeatureNetwork
from preimage.nets.features import load_features
from preimage.nets.patches import TwoScaleDiscriminator
from preimage.train.data import eight_bit
from preimage.train.deepsee_data import Faces, paired
from preimage.train.deepsee_settings import Recipe, rates, shape_of
from preimage.weights import load_upsampler


class Judges(nn.Module):
    """The discriminators of a recipe, and the fixed features that the perceptual loss reads too.

    Attributes:
        patch: sees picture and regions; None where the recipe has none.
        projected: heads on features; its mix holds their spread also where nobody asks its heads.
        heard: whether it is asked.
    """

    def __init__(self, recipe: Recipe, regions: int):
        super().__init__()
        network = load_features(recipe.features, recipe.feature_weights)
        side = recipe.generator.resolution
        self.patch = None if recipe.discriminator == "projected" else TwoScaleDiscriminator(regions, recipe.patch_width)
        self.heard = recipe.discriminator != "patch"
        self.projected = ProjectedDiscriminator(network, recipe.feature_size, recipe.width, recipe.pixel_width, side)
        if not self.heard:
            self.projected.requires_grad_(False)

    @property
    def network(self) -> FeatureNetwork:
        return self.projected.network

    def calibrate(self, real: Tensor) -> None:
        """See `ProjectedDiscriminator.calibrate`."""
        self.projected.calibrate(real)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """The fixed features of pictures (n, 3, R, R) in [0, 1]."""
        return self.network(self.projected.enlarge(pictures))

    def seen(self, raw: list[Tensor], pictures: Tensor) -> list[Tensor]:
        """What the projected discriminator judges, of `features` and the pictures."""
        mixed: list[Tensor] = self.projected.mix(raw)
        return [*mixed, pictures * 2 - 1] if self.projected.pixel_head is not None else mixed


def build_run(recipe: Recipe) -> tuple[DeepSEENetwork, Judges, torch.optim.Optimizer, torch.optim.Optimizer]:
    """Network, discriminators and their optimisers, as a run starts with them."""
    g = DeepSEENetwork(shape_of(recipe), recipe.name)
    if recipe.init:
        inherit(g, recipe.init)
    d = Judges(recipe, g.config.regions)
    slow = [] if g.encoder is None else list(g.encoder.small.parameters())
    known = set(map(id, slow))
    groups = [{"params": [p for p in g.parameters() if id(p) not in known], "share": 1.0}]
    groups += [{"params": slow, "share": recipe.small_rate}] if slow else []
    speeds = rates(recipe, 0)
    opt_g = torch.optim.Adam(groups, lr=speeds[0], betas=recipe.betas)
    opt_d = torch.optim.Adam([p for p in d.parameters() if p.requires_grad], lr=speeds[1], betas=recipe.betas)
    return g, d, opt_g, opt_d


def inherit(g: DeepSEENetwork, path: str) -> None:
    """Give a network the weights of an exported one, and what that one declares to have looked through.

    Raises:
        RecipeError: one of another shape.
    """
    start = load_upsampler(path)
    had = getattr(start, "config", None)
    small, sharp = g.config.small_styles, g.config.sharp_styles
    if (
        not isinstance(start, DeepSEENetwork)
        or replace(start.config, small_styles=small, sharp_styles=sharp) != g.config
    ):
        raise RecipeError(f"init: {path} has the shape {had}, and the recipe has {g.config}; make them equal.")
    g.load_state_dict(start.state_dict())
    remember(g, declared(start))


def set_shared_rates(opt_g: torch.optim.Optimizer, opt_d: torch.optim.Optimizer, speeds: tuple[float, float]) -> None:
    """Give the optimisers their learning rates; a group of parameters may have a share of it."""
    for optimiser, speed in zip((opt_g, opt_d), speeds, strict=True):
        for group in optimiser.param_groups:
            group["lr"] = speed * group.get("share", 1.0)


@contextmanager
def _counting(network: nn.Module) -> Iterator[None]:
    """Batch norm counts anew inside, while everything else is as it answers."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # a plain mean of all batches
        m.train()
    try:
        yield
    finally:
        for m, momentum in zip(norms, before, strict=True):
            m.momentum = momentum
            m.eval()


def at_once(recipe: Recipe) -> int:
    """How many faces the averaged network looks at together: no more pixels than 16 faces of 128, or than a step of the recipe has."""
    return max(recipe.batch, 16 * 128**2 // max(128, recipe.generator.resolution) ** 2)


@torch.no_grad()
def settle(network: DeepSEENetwork, faces: Faces, recipe: Recipe, count: int = 512, batch: int | None = None) -> None:
    """Measure on faces what the averaged network needs to answer: the statistics of its feature maps, and the Gaussian of styles.

    Args:
        network: in eval mode; changed in place.
        faces: to look at.
        recipe: of the run.
        count: how many of them, evenly spaced.
        batch: at a time; None: what `at_once` says.
    """
    device, batch = next(network.parameters()).device, batch or at_once(recipe)
    operator = downscaling(network.config.resolution, network.config.lr_size).to(device)
    chosen = np.linspace(0, len(faces) - 1, min(count, len(faces))).round().astype(int).tolist()
    more: list[Tensor] = []
    with _counting(network.generator):
        for i in range(0, len(chosen), batch):
            truth, labels = (x.to(device) for x in paired(faces, [(k, False) for k in chosen[i : i + batch]]))
            photo, mask = eight_bit(operator(truth)), mask_of(network, labels)
            small, sharp = network.encode(photo, mask, False), network.encode(truth, mask, True)
            usual = small if network.config.small_styles else sharp
            answer(network, operator, photo, mask, usual)
            if network.config.drawn and small is not None and sharp is not None:
                more.append((sharp - small).masked_fill(mask.sum((2, 3))[..., None] == 0, float("nan")))
    if more:
        fit(network, torch.cat(more))


def fit(network: DeepSEENetwork, more: Tensor) -> None:
    """The Gaussian of what sharp styles have beyond small ones, (n, regions, d); rows of NaN are regions that are not there.

    Its directions are of all regions together, so that hair and skin of one draw belong to one picture. They are found where every
    region counts alike, for the styles of small ones, means of few places, vary most by far; along them each region then varies as
    much as it does in the faces that have it. Left and right go one way, and so do the lips: eyes are to match.
    """
    absent = more[:, :, :1].isnan()
    there = (~absent).sum(0)  # (regions, 1)
    known = there >= 4  # fewer say nothing
    network.style_mean.copy_(more.nan_to_num(0).sum(0) / there.clamp_min(1) * known)
    network.style_root.zero_()
    apart = ((more - network.style_mean) * known).masked_fill(absent, 0)
    size = apart.square().sum((0, 2)).sqrt().clamp_min(1e-12)[:, None]
    _, values, vectors = torch.linalg.svd((apart / size).flatten(1), full_matrices=False)
    r = min(len(values), network.config.drawn)
    root = (values[:r, None] * vectors[:r]).view(r, *more.shape[1:])
    for pair in map(list, TIED if more.shape[1] > max(map(max, TIED)) else ()):
        root[:, pair] = root[:, pair].mean(1, keepdim=True)
    root = root * size / root.square().sum((0, 2)).sqrt().clamp_min(1e-12)[:, None]
    network.style_root[:, :r] = (root / (there - 1).clamp_min(1).sqrt()).transpose(0, 1)
