"""The discriminator that a recipe names: StyleGAN2's, heads on fixed features, or both."""

from __future__ import annotations

from typing import Protocol

from preimage.errors import RecipeError
from preimage.nets.discriminators import ProjectedDiscriminator, StyleGAN2Discriminator
from preimage.nets.features import FEATURE_NETWORKS, load_features


class Judging(Protocol):
    """What is read of the settings of a discriminator; see `stylegan2_settings.DiscriminatorSettings`."""

    @property
    def kind(self) -> str: ...
    @property
    def channel_base(self) -> int: ...
    @property
    def channel_max(self) -> int: ...
    @property
    def group(self) -> int: ...
    @property
    def features(self) -> str: ...
    @property
    def feature_weights(self) -> str: ...
    @property
    def feature_size(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def pixel_width(self) -> int: ...


def make_discriminator(
    d: Judging, side: int, key: str = "discriminator"
) -> StyleGAN2Discriminator | ProjectedDiscriminator:
    """A discriminator of pictures of this side; key: what the recipe calls it.

    Raises:
        RecipeError: an unknown feature network, or one without its file.
    """
    residual = None
    if d.kind != "projected":
        residual = StyleGAN2Discriminator(side, d.channel_base, d.channel_max, d.group)
        if d.kind == "stylegan2":
            return residual
    if d.features not in FEATURE_NETWORKS:
        raise RecipeError(f"{key}.features: {d.features!r}; there are {', '.join(FEATURE_NETWORKS)}.")
    if not d.feature_weights and FEATURE_NETWORKS[d.features].package is None:
        raise RecipeError(f"{key}.feature_weights: give the safetensors file of the feature network.")
    network = load_features(d.features, d.feature_weights)
    return ProjectedDiscriminator(network, d.feature_size, d.width, d.pixel_width, side, residual)
