"""What PULSE and SR-NAM share as methods: a prior, presets, batches of seeds, and candidates out of what a search found."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from preimage.candidates import Candidates
from preimage.degrade.consistency import make_exact
from preimage.degrade.learned import NOISE, LearnedDegradation, Operator, frozen, learned_error
from preimage.device import autocast, resolve_device, resolve_precision
from preimage.errors import MethodError
from preimage.generate.prior import Prior
from preimage.image import check_lr
from preimage.invert.method import Capabilities, OnStep
from preimage.invert.problem import GREY_LEVELS, degradation_for
from preimage.invert.search import Found, search
from preimage.invert.settings import SearchSettings
from preimage.memory import AUTO, fitting, graph_bytes, halved, is_out_of_memory, parse_batch
from preimage.nets.fingerprint import fingerprint
from preimage.nets.layers import channels_last
from preimage.weights import load_prior


class LatentSearch:
    """A method that searches the latent space of any prior; a subclass says how.

    Args:
        prior: a loaded prior, an embedded name, a path or hub id, or None for the default.
        preset: one of `presets`.
        device, precision: as in `preimage.device`.
        batch: how many candidates run together; "auto" takes what fits into memory. A batch that does not fit is halved.

    Attributes:
        presets: named settings.

    Raises:
        MethodError: unknown preset, an empty batch, or a `prior` that does not meet the Prior contract.
    """

    name: str
    capabilities: Capabilities
    presets: ClassVar[Mapping[str, SearchSettings]]

    def __init__(
        self,
        prior: Prior | str | Path | None = None,
        preset: str = "default",
        device: str = "auto",
        precision: str = "auto",
        batch: int | str = AUTO,
    ) -> None:
        if preset not in self.presets:
            raise MethodError(f"preset {preset!r} is unknown; there are {', '.join(self.presets)}.")
        self.batch = parse_batch(batch)
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        loaded: Any = load_prior(prior) if prior is None or isinstance(prior, str | Path) else prior
        if not isinstance(loaded, Prior):
            raise MethodError(
                f"{type(loaded).__name__} is not a prior: it lacks members of preimage.generate.prior.Prior."
            )
        if isinstance(loaded, torch.nn.Module):
            loaded.to(self.device).requires_grad_(False)
            channels_last(loaded)  # else every convolution sorts its kernels anew
        self.prior: Prior = loaded
        self.settings = self.presets[preset]
        self._graph = 0

    @property
    def resolution(self) -> int:
        return self.prior.resolution

    def sample(
        self,
        lr: Tensor,
        /,
        seeds: Sequence[int],
        operator: Operator | str | None = None,
        on_step: OnStep | None = None,
        **controls: Any,
    ) -> Iterator[Candidates]:
        """Candidates of these seeds, batch by batch.

        Args:
            lr: (3, h, w) RGB in [0, 1] on the 8-bit grid (`preimage.image.check_lr`).
            seeds: one candidate each.
            operator: the downscaling, linear or learned; an object, a name or a path, or None for the method's default
                (`Capabilities.default_operator`).
            on_step: called after each step of a batch with the step and the candidates still searching.
            **controls: any field of `SearchSettings`.

        Raises:
            OperatorError, InputError, MethodError: a photo, operator or control that does not fit.
            WeightsError: a learned degradation that cannot be loaded.
        """
        lr = check_lr(lr)
        settings = self.settings.with_(controls)
        chosen = operator if operator is not None else self.capabilities.default_operator
        degradation = degradation_for(lr, self.prior.resolution, chosen)
        if isinstance(degradation, LearnedDegradation):
            frozen(degradation, self.device)
        return self._sample(lr, tuple(seeds), degradation, settings, on_step)

    def _sample(
        self, lr: Tensor, seeds: tuple[int, ...], operator: Operator, settings: SearchSettings, on_step: OnStep | None
    ) -> Iterator[Candidates]:
        size = self.batch or fitting(self.device, self.resolution, self._graph_of_one)
        while seeds:
            began, chosen = time.monotonic(), seeds[:size]
            found = self._search(lr, chosen, operator, settings, on_step)
            if found is None:  # too many for the memory there is, also for what follows
                self.batch = size = halved(chosen, self.prior.name)
                continue
            seeds = seeds[len(chosen) :]
            yield self._finish(found, lr, chosen, operator, began)

    def _search(
        self, lr: Tensor, seeds: tuple[int, ...], operator: Operator, settings: SearchSettings, on_step: OnStep | None
    ) -> Found | None:
        """What a search found; None where memory ran out."""
        try:
            with autocast(self.device, self.dtype), torch.enable_grad():
                return search(self.prior, operator, lr, seeds, settings, on_step)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None

    def _graph_of_one(self) -> int:
        """Bytes that the graph of one candidate takes; measured once, by one forward pass."""
        if not self._graph:
            latents = torch.zeros(1, *self.prior.latent_shape, device=self.device, requires_grad=True)
            noise = [torch.zeros(1, 1, s, s, device=self.device, requires_grad=True) for s in self.prior.noise_sizes]
            with autocast(self.device, self.dtype):
                self._graph = graph_bytes(self.prior, lambda: self.prior.synthesize(latents, noise))
        return self._graph

    def _finish(self, found: Found, lr: Tensor, seeds: tuple[int, ...], operator: Operator, began: float) -> Candidates:
        """Exact files where the downscaling is linear; where it is learned, the plain picture and the L1 it reaches."""
        kept = {"latents": found.latents.cpu(), **{f"noise{i}": x.cpu() for i, x in enumerate(found.noise)}}
        common: dict[str, Any] = {
            "seeds": seeds,
            "lr": lr,
            "operator": operator,
            "error_before": GREY_LEVELS * found.mse.sqrt().cpu(),
            "steps": found.steps,
            "latents": kept,
            "method": self.name,
            "prior": self.prior.name,
        }
        if isinstance(operator, LearnedDegradation):
            images = (found.images.clamp(0, 1) * GREY_LEVELS).round() / GREY_LEVELS
            l1, rms = learned_error(operator, images, lr, found.degradation)
            if found.degradation is not None:
                kept[NOISE] = found.degradation.cpu()
            none = torch.zeros(len(seeds))
            return Candidates(
                images=images.cpu(), error=rms, exact=none.bool(), moved=none, l1=l1,
                seconds=time.monotonic() - began, **common,
            )  # fmt: skip
        exact = make_exact(found.images.cpu(), lr, operator)
        return Candidates(
            images=exact.images.float() / GREY_LEVELS, error=exact.error, exact=exact.exact, moved=exact.moved,
            seconds=time.monotonic() - began, **common,
        )  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """Resolved settings, for run.yaml."""
        return {
            "name": self.name,
            "prior": self.prior.name,
            "prior_sha256": fingerprint(self.prior),
            **asdict(self.settings),
        }
