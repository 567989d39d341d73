"""Bicubic enlargement made exact: the baseline without imagination."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.candidates import Candidates
from preimage.degrade.consistency import lr_error, make_exact
from preimage.degrade.learned import Operator
from preimage.device import resolve_device, resolve_precision
from preimage.errors import MethodError, WeightsError
from preimage.image import check_lr
from preimage.invert.method import Capabilities, OnStep
from preimage.invert.problem import GREY_LEVELS, operator_for
from preimage.memory import AUTO, parse_batch
from preimage.weights import load_prior, load_upsampler, weight_table


def _network(name: str | Path | None) -> Any:
    """A prior or an upsampler of this name."""
    table = weight_table()
    if str(name) in table and table[str(name)].kind == "upsampler":
        return load_upsampler(name)
    try:
        return load_prior(name)
    except WeightsError:
        if name is None or not os.path.isfile(name):  # also for names that no file can have
            raise
        return load_upsampler(name)


class Bicubic:
    """Cubic interpolation, then the nearest exact picture. Every seed gives the same one.

    Args:
        resolution: side of the pictures; None takes the prior's, so that methods compare at one size.
        prior: a prior, or a network of posterior; only its size matters.
        preset, device, precision, batch: checked as for `Pulse`, and without effect: one picture, made on the CPU.

    Raises:
        MethodError, InputError: one of them that does not exist.
    """

    name = "bicubic"
    capabilities = Capabilities(summary="cubic interpolation made exact; one blurry answer, for comparison", many=False)

    def __init__(
        self,
        resolution: int | None = None,
        prior: Any = None,
        preset: str = "default",
        device: str = "auto",
        precision: str = "auto",
        batch: int | str = AUTO,
    ) -> None:
        if preset != "default":
            raise MethodError(f"preset {preset!r:.60} is unknown; bicubic has default only.")
        parse_batch(batch)
        resolve_precision(precision, resolve_device(device))
        if resolution is None:
            loaded: Any = _network(prior) if prior is None or isinstance(prior, str | Path) else prior
            resolution = int(loaded.resolution)
        self._resolution = resolution

    @property
    def resolution(self) -> int:
        return self._resolution

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "resolution": self.resolution}

    def sample(
        self,
        lr: Tensor,
        /,
        seeds: Sequence[int],
        operator: Operator | str | None = None,
        on_step: OnStep | None = None,
        **controls: Any,
    ) -> Iterator[Candidates]:
        """One batch with the same picture for each seed.

        Raises:
            MethodError: any control; there are none.
            OperatorError: a learned degradation, or one that does not fit.
        """
        if controls:
            raise MethodError(f"bicubic has no control {', '.join(controls)}.")
        began = time.monotonic()
        lr = check_lr(lr)
        operator = operator_for(lr, self.resolution, operator)
        side = (self.resolution, self.resolution)
        image = F.interpolate(lr[None], size=side, mode="bicubic", align_corners=False)
        exact = make_exact(image, lr, operator)
        n = len(seeds)
        if n == 0:
            return
        yield Candidates(
            images=(exact.images.float() / GREY_LEVELS).expand(n, -1, -1, -1),
            seeds=tuple(seeds),
            lr=lr,
            operator=operator,
            error=exact.error.expand(n),
            exact=exact.exact.expand(n),
            moved=exact.moved.expand(n),
            error_before=lr_error(image, lr, operator).expand(n),
            steps=torch.zeros(n, dtype=torch.long),
            seconds=time.monotonic() - began,
            method=self.name,
        )
