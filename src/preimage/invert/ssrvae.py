"""SSRVAE (Ma et al., 2019): one pass of a network that learned to undo what cameras do; one answer, without chance (docs/ssrvae.md).

The paper leaves the network's picture as it is. Here it becomes exact where the degradation is linear, like that of any other method;
where it is learned, its L1 is stated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from preimage.device import autocast
from preimage.errors import MethodError, OperatorError
from preimage.image import MAX_SIDE
from preimage.invert.method import Capabilities, network_or_load
from preimage.invert.one_pass import OnePass
from preimage.invert.queue import Row, photos_of
from preimage.invert.settings import Settings
from preimage.nets.layers import freeze
from preimage.nets.upscaler import Upscaler
from preimage.weights import load_upsampler


@dataclass(frozen=True)
class SSRVAESettings(Settings):
    """Controls of `SSRVAE`: none."""


class SSRVAE(OnePass):
    """One pass of a network for photos of any size; `weights` is that network, or a baseline on the same contract. See `Method`."""

    name = "ssrvae"
    capabilities = Capabilities(
        summary="one pass of an attention network that learned to undo cameras: one answer",
        paper="Ma et al., 2019, arXiv 1912.10227",
        weights=True,
        many=False,
        degradations=("linear", "learned"),
    )
    presets: ClassVar[Mapping[str, SSRVAESettings]] = {"default": SSRVAESettings()}
    network: Upscaler

    def load(self, prior: Any, weights: Any) -> None:
        network = network_or_load(weights, partial(load_upsampler, family=self.name))
        if not isinstance(network, Upscaler):
            raise MethodError(
                f"a {type(network).__name__} is no network of ssrvae, which takes what `preimage train ssrvae-64-b` and its like "
                "export (upsampler.safetensors). Choose one of these, or the method that the network is of."
            )
        freeze(network, self.device)
        self.network = network

    @property
    def resolution(self) -> int:
        return self.network.resolution

    def resolution_for(self, side: int) -> int:
        return side * self.network.scale

    @property
    def largest_side(self) -> int:
        """See `Method.largest_side`: pictures grow with the photo, as far as they can be read again."""
        return MAX_SIDE // self.network.scale

    @property
    def networks(self) -> Mapping[str, Any]:
        return {"weights": self.network}

    def answers(self, rows: Sequence[Row], settings: Settings) -> tuple[Tensor, dict[str, Tensor]]:
        """See `OnePass.answers`."""
        with torch.no_grad(), autocast(self.device, self.dtype):
            made: Tensor = self.network(photos_of(rows).to(self.device)).float()
            return made, {}

    def fewer(self, rows: Sequence[Row]) -> int:
        if len(rows) > 1:
            return super().fewer(rows)
        high, wide = rows[0].ask.problem.lr.shape[-2:]
        raise OperatorError(
            f"{self.network.name}: a photo of {wide}x{high} does not fit into memory; bring it down first (--reduce)."
        )
