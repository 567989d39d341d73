"""Networks of the posterior trainer: built, grown from smaller ones, joined to chains."""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from preimage.declaration import declared, remember
from preimage.errors import RecipeError
from preimage.invert.sampler import load_sampler
from preimage.nets.conditional import ConditionalGenerator
from preimage.nets.discriminators import ProjectedDiscriminator
from preimage.nets.features import load_features
from preimage.nets.local import Chain, LocalGenerator
from preimage.texts import one_line
from preimage.train.posterior_settings import LocalRecipe, Recipe, rates
from preimage.weights import load_upsampler

Generator = ConditionalGenerator | LocalGenerator


def build_run(
    recipe: Recipe,
) -> tuple[Generator, ProjectedDiscriminator, torch.optim.Optimizer, torch.optim.Optimizer]:
    """Generator, discriminator and their optimisers, as a run starts with them."""
    g = build(recipe)
    if recipe.init:
        start = load_upsampler(recipe.init)
        grow(g, start)
        remember(g, declared(start))
    network = load_features(recipe.features, recipe.feature_weights)
    d = ProjectedDiscriminator(network, recipe.feature_size, recipe.width, recipe.pixel_width, g.resolution)
    if recipe.init_discriminator:
        inherit(d, recipe.init_discriminator)
    opt_g, opt_d = (
        torch.optim.Adam(network.parameters(), lr=rate, betas=recipe.betas, eps=1e-8)
        for network, rate in zip((g, d), rates(recipe, 0), strict=True)
    )
    return g, d, opt_g, opt_d


def build(recipe: Recipe) -> Generator:
    """The network of a recipe, untrained."""
    if isinstance(recipe, LocalRecipe):
        return LocalGenerator(recipe.generator, recipe.name)
    return ConditionalGenerator(recipe.generator, recipe.name)


@torch.no_grad()
def grow(g: Generator, start: nn.Module) -> None:
    """Give a network the weights of a smaller one; levels and pairs that are new add nothing to the picture at first.

    Raises:
        RecipeError: a network of another shape.
    """
    if (
        isinstance(g, LocalGenerator)
        and isinstance(start, LocalGenerator)
        and replace(start.config, resolution=g.resolution) == g.config
    ):
        g.load_state_dict(start.state_dict())
        return
    if not isinstance(g, ConditionalGenerator) or not isinstance(start, ConditionalGenerator):
        had_shape = getattr(start, "config", type(start).__name__)
        raise RecipeError(f"init: holds the shape {had_shape}, and the recipe has {g.config}; make them equal.")
    had, wanted = start.config, g.config
    levels = len(had.channels)
    more_pairs = any(a > b for a, b in zip_longest(had.pairs, wanted.pairs, fillvalue=0))
    if (
        had.resolution > wanted.resolution
        or had.tolerant > wanted.tolerant
        or more_pairs
        or len(had.sharpness) > len(wanted.sharpness)
    ):
        raise RecipeError(
            f"init: {start.name} has more than the recipe asks for (resolution {had.resolution}, pairs {list(had.pairs)}, tolerant "
            f"{had.tolerant}, sharpness {list(had.sharpness)}); a network can grow, not shrink."
        )
    same = replace(
        had, resolution=wanted.resolution, channels=(*had.channels, *wanted.channels[levels:]), pairs=wanted.pairs,
        tolerant=wanted.tolerant, sharpness=wanted.sharpness,
    )  # fmt: skip
    if same != wanted:
        raise RecipeError(f"init: {start.name} would become {same}, and the recipe has {wanted}; make them equal.")
    state = start.state_dict()
    told = "mapping.0.weight"  # whose scale depends on how many numbers it is told
    had_told, has_told = (network.get_parameter(told).shape[1] for network in (start, g))
    state[told] = F.pad(state[told], (0, has_told - had_told)) * (has_told / had_told) ** 0.5
    g.load_state_dict(state, strict=False)
    for i in range(levels, len(g.levels)):
        g.get_parameter(f"levels.{i}.rgb.weight").zero_()


def inherit(d: ProjectedDiscriminator, path: str | Path) -> None:
    """Give a discriminator those saved tensors that fit it by name and shape.

    Raises:
        RecipeError: no readable file, or nothing in it fits.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        saved = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise RecipeError(
            f"init_discriminator: {path} is not a readable safetensors file ({one_line(error)})."
        ) from None
    own = d.state_dict()
    fitting = {key: value for key, value in saved.items() if key in own and own[key].shape == value.shape}
    if not any(key.startswith("heads.") for key in fitting):
        raise RecipeError(f"init_discriminator: {path} holds no head that fits; width must be the same.")
    d.load_state_dict(fitting, strict=False)


def first_of(recipe: Recipe) -> ConditionalGenerator | None:
    """The first stage that a second one is exported with."""
    if not isinstance(recipe, LocalRecipe) or not recipe.first:
        return None
    first = load_sampler(recipe.first)
    if not isinstance(first, ConditionalGenerator):
        raise RecipeError(f"first: {recipe.first} holds a {type(first).__name__}, which is no first stage.")
    return first


def chain(first: ConditionalGenerator, second: LocalGenerator) -> Chain:
    """Two trained stages as one network, the second at the size that follows from the first."""
    large = LocalGenerator(replace(second.config, resolution=first.resolution * second.config.factor), second.name)
    large.load_state_dict(second.state_dict())
    return Chain(first, large, f"{first.name}-{second.name}")
