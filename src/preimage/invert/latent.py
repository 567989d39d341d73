"""What PULSE and SR-NAM share as methods: a prior, batches that stay full, and candidates out of what a search found."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from preimage.candidates import Candidates
from preimage.device import autocast
from preimage.errors import MethodError
from preimage.generate.prior import Prior
from preimage.invert.encoded import FAMILY, encoded, find_encoder, prepare
from preimage.invert.finish import finish
from preimage.invert.listener import Listener
from preimage.invert.method import Input, Method, network_or_load
from preimage.invert.nearest import START, nearest
from preimage.invert.problem import GREY_LEVELS, Problem
from preimage.invert.queue import Ask, Queue, Row, by_photo
from preimage.invert.search import Search
from preimage.invert.search_settings import SearchSettings
from preimage.invert.settings import Settings
from preimage.invert.walk import Found, select
from preimage.memory import fitting, graph_bytes, halved, unless_out_of_memory
from preimage.nets.fingerprint import fingerprint
from preimage.nets.layers import freeze
from preimage.nets.pro_pulse import ProPulseEncoder
from preimage.weights import load_prior

BEGIN_AT = Input(
    START, "picture", help="a picture, such as another method's answer, at whose latents the search begins; or pro-pulse",
    words={FAMILY: "encoder"},
)  # fmt: skip


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
        self._encoders: dict[str, ProPulseEncoder] = {}

    @property
    def resolution(self) -> int:
        return self.prior.resolution

    @property
    def networks(self) -> Mapping[str, Any]:
        return {"prior": self.prior}

    @property
    def together(self) -> int:
        """See `Method.together`: as many as fit into memory, where no batch was chosen."""
        return self.batch or fitting(self.device, self.resolution, self._graph_of_one)

    def check(self, settings: Settings, seeds: Sequence[int] = (), guides: Collection[str] = ()) -> None:
        name = self.search_settings(settings).encoder
        if name and START in guides:
            raise MethodError(f"start and encoder ({name}) both say where to begin; give one of them.")
        if name:
            self._encoder(name)

    def describe(self, settings: Settings | None = None) -> dict[str, Any]:
        about, name = super().describe(settings), self.search_settings(settings or self.settings).encoder
        return about | ({"encoder_sha256": fingerprint(self._encoder(name))} if name else {})

    def search_settings(self, settings: Settings) -> SearchSettings:
        """How to search, of the method's own settings."""
        return cast(SearchSettings, settings)

    def sample(
        self,
        problem: Problem,
        seeds: Sequence[int],
        settings: Settings | None = None,
        listener: Listener | None = None,
        at: Mapping[str, Tensor] | None = None,
    ) -> Iterator[Candidates]:
        """See `Method.sample`; the settings are `SearchSettings`."""
        return _in_order(self._searched([Ask(problem, seeds, at)], settings, listener), len(seeds), self.together)

    def sample_each(
        self, asks: Iterable[Ask], settings: Settings | None = None, listener: Listener | None = None
    ) -> Iterator[tuple[Ask, Candidates]]:
        """See `Method.sample_each`: a candidate that is done makes room for the next, of the same photo or of another."""
        for rows, part in self._searched(asks, settings, listener):
            yield rows[0].ask, part

    def _searched(
        self, asks: Iterable[Ask], settings: Settings | None, listener: Listener | None
    ) -> Iterator[tuple[list[Row], Candidates]]:
        """Candidates as they are found, those of one photo that end with the same step together."""
        queue, size, chosen = Queue(asks), self.together, settings or self.settings
        while rows := queue.take(size):
            degradation = rows[0].ask.problem.degradation
            search = Search(self.prior, degradation, self.search_settings(chosen), listener)
            while rows or search.rows:
                done = unless_out_of_memory(partial(self._step, search, rows, chosen))
                if done is None:  # too many for the memory there is, also for what follows; all begin again
                    wanted = [*search.rows, *(row for row in rows if row not in search.rows)]
                    queue.put_back(wanted)
                    self.batch = size = halved(wanted, self.prior.name)
                    break
                yield from self._finish(*done)
                if search.stopped:
                    return
                rows = queue.take(size - len(search.rows), search.rows[0]) if search.rows else []

    def _step(self, search: Search, rows: Sequence[Row], settings: Settings) -> tuple[list[Row], Found]:
        began = time.monotonic()
        with autocast(self.device, self.dtype), torch.set_grad_enabled(search.settings.steps > 1):
            at = self._beginning(rows, settings) if rows and rows[0].ask.at is None else None
            search.join(rows, at, time.monotonic() - began)
            return search.step()

    def _beginning(self, rows: Sequence[Row], settings: Settings) -> dict[str, Tensor] | None:
        """Latents of the picture to begin at, or those that an encoder writes, where one was given; rows of a batch have the same guides."""
        chosen, picture = self.search_settings(settings), rows[0].ask.problem.guides.get(START)
        if picture is not None:
            with torch.enable_grad():
                return nearest(self.prior, picture.to(self.device), [row.seed for row in rows], chosen)
        if chosen.encoder:
            network = self._encoder(chosen.encoder)
            return encoded(self.prior, network, rows, share=chosen.encoder_share, spread=chosen.spread)
        return None

    def _encoder(self, name: str) -> ProPulseEncoder:
        if name not in self._encoders:
            found = find_encoder(name)
            prepare(found, self.prior, self.device)
            self._encoders[name] = found
        return self._encoders[name]

    def _graph_of_one(self) -> int:
        """Bytes that the graph of one candidate takes; measured once, by one forward pass."""
        if not self._graph:
            latents = torch.zeros(1, *self.prior.latent_shape, device=self.device, requires_grad=True)
            noise = [torch.zeros(1, 1, s, s, device=self.device, requires_grad=True) for s in self.prior.noise_sizes]
            with autocast(self.device, self.dtype):
                self._graph = graph_bytes(self.prior, lambda: self.prior.synthesize(latents, noise))
        return self._graph

    def _finish(self, rows: list[Row], found: Found) -> Iterator[tuple[list[Row], Candidates]]:
        for ask, places in by_photo(rows):
            own, part = [rows[i] for i in places], select(found, torch.tensor(places))
            yield own, finish(
                part.images, ask.problem, [row.seed for row in own], method=self.name, prior=self.prior.name,
                error_before=GREY_LEVELS * part.mse.sqrt(), steps=part.steps, noise=part.degradation,
                began=time.monotonic() - float(part.seconds.sum()),
                latents={"latents": part.latents, **{f"noise{i}": x for i, x in enumerate(part.noise)}},
            )  # fmt: skip


def _in_order(parts: Iterable[tuple[list[Row], Candidates]], n: int, size: int) -> Iterator[Candidates]:
    """One photo's candidates in the order of its seeds, `size` at a time, and at last what a run had that was stopped."""
    waiting: dict[int, Candidates] = {}
    first = 0
    for rows, part in parts:
        waiting |= {row.place: candidate for row, candidate in zip(rows, part, strict=True)}
        while first < n and all(i in waiting for i in range(first, min(first + size, n))):
            yield Candidates.cat([waiting.pop(i) for i in range(first, min(first + size, n))])
            first += size
    if waiting:
        yield Candidates.cat([waiting[i] for i in sorted(waiting)])
