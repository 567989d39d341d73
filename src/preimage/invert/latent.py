"""What PULSE and SR-NAM share as methods: a prior, batches of seeds, and candidates out of what a search found."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from preimage.candidates import Candidates
from preimage.device import autocast
from preimage.errors import MethodError
from preimage.generate.prior import Prior
from preimage.invert.finish import finish
from preimage.invert.listener import Listener
from preimage.invert.method import Method, check_rows, network_or_load
from preimage.invert.problem import GREY_LEVELS, Problem
from preimage.invert.search import Found, search
from preimage.invert.search_settings import SearchSettings
from preimage.invert.settings import Settings
from preimage.memory import fitting, graph_bytes, halved, unless_out_of_memory
from preimage.nets.layers import freeze
from preimage.weights import load_prior


class LatentSearch(Method):
    """A method that searches the latent space of any prior; a subclass says how. See `Method`."""

    def load(self, prior: Any, weights: Any) -> None:
        loaded: Any = network_or_load(prior, load_prior)
        if not isinstance(loaded, Prior):
            raise MethodError(
                f"{type(loaded).__name__} is not a prior: it lacks members of preimage.generate.prior.Prior."
            )
        if isinstance(loaded, torch.nn.Module):
            freeze(loaded, self.device)
        self.prior: Prior = loaded
        self._graph = 0

    @property
    def resolution(self) -> int:
        return self.prior.resolution

    @property
    def networks(self) -> Mapping[str, Any]:
        return {"prior": self.prior}

    def sample(
        self,
        problem: Problem,
        seeds: Sequence[int],
        settings: Settings | None = None,
        listener: Listener | None = None,
        at: Mapping[str, Tensor] | None = None,
    ) -> Iterator[Candidates]:
        """See `Method.sample`; the settings are `SearchSettings`."""
        chosen = cast(SearchSettings, settings or self.settings)
        check_rows(at, seeds)
        size = self.batch or fitting(self.device, self.resolution, self._graph_of_one)
        seeds, first = tuple(seeds), 0
        while first < len(seeds):
            began, part = time.monotonic(), seeds[first : first + size]
            rows = None if at is None else {name: x[first : first + len(part)] for name, x in at.items()}
            found = unless_out_of_memory(partial(self._search, problem, part, chosen, listener, rows))
            if found is None:  # too many for the memory there is, also for what follows
                self.batch = size = halved(part, self.prior.name)
                continue
            first += len(part)
            yield self._finish(found, problem, part, began)
            if found.stopped:
                return

    def _search(
        self,
        problem: Problem,
        seeds: tuple[int, ...],
        settings: SearchSettings,
        listener: Listener | None,
        at: Mapping[str, Tensor] | None,
    ) -> Found:
        with autocast(self.device, self.dtype), torch.enable_grad():
            return search(self.prior, problem.degradation, problem.lr, seeds, settings, listener, at)

    def _graph_of_one(self) -> int:
        """Bytes that the graph of one candidate takes; measured once, by one forward pass."""
        if not self._graph:
            latents = torch.zeros(1, *self.prior.latent_shape, device=self.device, requires_grad=True)
            noise = [torch.zeros(1, 1, s, s, device=self.device, requires_grad=True) for s in self.prior.noise_sizes]
            with autocast(self.device, self.dtype):
                self._graph = graph_bytes(self.prior, lambda: self.prior.synthesize(latents, noise))
        return self._graph

    def _finish(self, found: Found, problem: Problem, seeds: tuple[int, ...], began: float) -> Candidates:
        return finish(
            found.images, problem, seeds, method=self.name, prior=self.prior.name, error_before=GREY_LEVELS * found.mse.sqrt(),
            steps=found.steps, noise=found.degradation, began=began,
            latents={"latents": found.latents, **{f"noise{i}": x for i, x in enumerate(found.noise)}},
        )  # fmt: skip
