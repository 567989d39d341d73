"""What PULSE and SR-NAM share as methods: a prior, batches that stay full, and candidates out of what a search found."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from preimage.candidates import Candidates
from preimage.degrade.learned import NOISE
from preimage.device import autocast
from preimage.errors import MethodError
from preimage.generate.prior import Prior, side_sizes
from preimage.generate.side_outputs import Branched
from preimage.invert.coarse import check_coarse
from preimage.invert.editing import Editable, parse_edit
from preimage.invert.encoded import FAMILY, INVERSE, check_invertible, encoded, find_encoder, inverted, prepare
from preimage.invert.finish import finish
from preimage.invert.listener import Listener
from preimage.invert.method import Input, network_or_load
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
from preimage.weights import load_prior, load_side_outputs

BEGIN_AT = Input(
    START, "picture", help="a picture, such as another method's answer, at whose latents the search begins; or pro-pulse, or inverse",
    words={FAMILY: "encoder", INVERSE: "encoder"}, enlarge=True,
)  # fmt: skip


class LatentSearch(Editable):
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
        branches = getattr(self.prior, "branches", None)
        return {"prior": self.prior} | ({} if branches is None else {"side_outputs": branches})

    @property
    def side_sizes(self) -> tuple[int, ...]:
        """See `Method.side_sizes`."""
        return tuple(side for side in side_sizes(self.prior) if side < self.resolution)

    def attach(self, branches: Any) -> None:
        """See `Method.attach`."""
        prior: Any = self.prior
        if not isinstance(prior, Branched):
            raise MethodError(
                f"{type(prior).__name__}: its blocks can have no branches; those of StyleGAN2, StyleGAN and ProGAN can."
            )
        prior.attach(network_or_load(branches, partial(load_side_outputs, prior=prior)))

    @torch.no_grad()
    def side_outputs(self, candidates: Candidates) -> dict[int, Tensor]:
        """See `Method.side_outputs`."""
        sides, prior = self.side_sizes, cast(Any, self.prior)
        if not sides:
            return {}
        if "latents" not in candidates.latents:
            raise MethodError(
                f"these candidates carry no latents of {self.name}, from which smaller pictures are drawn."
            )
        kept = {name: x.to(self.device) for name, x in candidates.latents.items()}
        noise = [kept[f"noise{i}"] for i in range(len(prior.noise_sizes))]
        with autocast(self.device, self.dtype):
            drawn = prior.side_outputs(kept["latents"], noise, largest=sides[-1])
        return {side: drawn[side].float().clamp(0, 1).cpu() for side in sides}

    def check(self, settings: Settings, seeds: Sequence[int] = (), guides: Collection[str] = ()) -> None:
        """See `Method.check`."""
        super().check(settings, seeds, guides)
        chosen = self.search_settings(settings)
        check_coarse(self.prior, chosen)
        if chosen.encoder and START in guides:
            raise MethodError(f"start and encoder ({chosen.encoder}) both say where to begin; give one of them.")
        if chosen.encoder == INVERSE:
            check_invertible(self.prior)
        elif chosen.encoder:
            self._encoder(chosen.encoder)

    @property
    def together(self) -> int:
        """See `Method.together`: as many as fit into memory, where no batch was chosen."""
        return self.batch or fitting(self.device, self.resolution, self._graph_of_one)

    def describe(self, settings: Settings | None = None) -> dict[str, Any]:
        about, name = super().describe(settings), self.search_settings(settings or self.settings).encoder
        return about | ({"encoder_sha256": fingerprint(self._encoder(name))} if name and name != INVERSE else {})

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
            degradation, how = rows[0].ask.problem.degradation, self.search_settings(chosen)
            search = Search(self.prior, degradation, how, listener)
            while rows or search.rows:
                done = unless_out_of_memory(partial(self._step, search, rows, chosen))
                if done is None:  # too many for the memory there is, also for what follows; all begin again
                    wanted = [*search.rows, *(row for row in rows if row not in search.rows)]
                    queue.put_back(wanted)
                    self.batch = size = halved(wanted, self.prior.name)
                    break
                yield from self._finish(*done, how)
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
        if chosen.encoder == INVERSE:
            return inverted(self.prior, rows, share=chosen.encoder_share, spread=chosen.spread)
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

    def _finish(
        self, rows: list[Row], found: Found, settings: SearchSettings
    ) -> Iterator[tuple[list[Row], Candidates]]:
        for ask, places in by_photo(rows):
            own, part = [rows[i] for i in places], select(found, torch.tensor(places))
            seeds = [row.seed for row in own]
            if settings.edit:
                part = self._edited(part, ask.problem, settings.edit)
            yield own, finish(
                part.images, ask.problem, seeds, method=self.name, prior=self.prior.name,
                error_before=GREY_LEVELS * part.mse.sqrt(), steps=part.steps, noise=part.degradation,
                began=time.monotonic() - float(part.seconds.sum()), edit=settings.edit,
                latents={"latents": part.latents, **{f"noise{i}": x for i, x in enumerate(part.noise)}},
            )  # fmt: skip

    def _edited(self, found: Found, problem: Problem, edit: str) -> Found:
        """What was found, moved along directions."""
        began, known = time.monotonic(), self.directions
        assert known is not None  # `check` saw to it
        with torch.no_grad(), autocast(self.device, self.dtype):
            latents = known.move(found.latents, parse_edit(edit))
            images = self.prior.synthesize(latents, found.noise).float()
            misses = problem.degradation(images, found.degradation).float() - problem.lr.to(images.device)
            mse, l1 = misses.square().mean(dim=(1, 2, 3)), misses.abs().mean(dim=(1, 2, 3))
        spent = (time.monotonic() - began) / len(images)
        return replace(found, images=images, latents=latents, mse=mse, l1=l1, seconds=found.seconds + spent)

    @torch.no_grad()
    def _steer(self, candidate: Candidates, changes: Mapping[str, Any], seeds: Sequence[int]) -> Candidates:
        """One candidate moved along directions, and its noise as the method turns it; a single forward pass."""
        began, n = time.monotonic(), len(seeds)
        kept = {name: x.to(self.device).expand(n, *x.shape[1:]) for name, x in candidate.latents.items()}
        edit, further = self._turned(candidate.edit, changes)
        latents = self._steered_latents(kept["latents"], candidate, changes, seeds)
        if self.directions is not None:
            latents = self.directions.move(latents, further)
        noise = self._steered_noise(kept, changes, seeds)
        images = self.prior.synthesize(latents, noise)
        return finish(
            images, Problem(candidate.lr, candidate.degradation, self.resolution), seeds, method=self.name, prior=self.prior.name,
            noise=kept.get(NOISE), began=began, edit=edit,
            latents={"latents": latents, **{f"noise{i}": x for i, x in enumerate(noise)}},
        )  # fmt: skip

    def _steered_latents(
        self, latents: Tensor, candidate: Candidates, changes: Mapping[str, Any], seeds: Sequence[int]
    ) -> Tensor:
        """The latents of a candidate, a row for each seed, as handles have them; here as they are."""
        return latents

    def _steered_noise(
        self, kept: Mapping[str, Tensor], changes: Mapping[str, Any], seeds: Sequence[int]
    ) -> list[Tensor]:
        """Noise maps of a candidate of which handles were turned; here those that it has.

        Args:
            kept: its latents and noise maps, a row for each seed.
            changes: by name of the handle.
            seeds: of what is drawn anew.
        """
        return [kept[f"noise{i}"] for i in range(len(self.prior.noise_sizes))]


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
