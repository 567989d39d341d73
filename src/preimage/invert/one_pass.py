"""What methods share whose network answers in one pass: photos of one size, with their seeds, as one batch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from preimage.candidates import Candidates
from preimage.invert.finish import finish
from preimage.invert.listener import Listener, Step, stops
from preimage.invert.method import Method
from preimage.invert.problem import Problem
from preimage.invert.queue import Ask, Queue, Row, by_photo
from preimage.invert.settings import Settings
from preimage.memory import halved, unless_out_of_memory

BATCH = 16
"""Answers of up to 128 pixels that are made together where `batch` is "auto", fewer of larger ones; a pass keeps no graph."""


Answers = tuple[Tensor, dict[str, Tensor]] | tuple[Tensor, dict[str, Tensor], Tensor]
"""See `OnePass.answers`."""


class OnePass(Method):
    """A method of one pass; a subclass says what its network answers. See `Method`.

    Attributes:
        network: what answers; it has a name.
    """

    network: Any

    @property
    def together(self) -> int:
        """See `Method.together`; of pictures of the side that it learned."""
        return self._room(self.resolution)

    def _room(self, side: int) -> int:
        return self.batch or max(1, BATCH * 128**2 // max(side, 128) ** 2)

    def answers(self, rows: Sequence[Row], settings: Settings) -> Answers:
        """Pictures (n, 3, R, R) of rows that fit into one batch, what to continue from, by name, and perhaps what the pictures were
        before a projection of the method's own.
        """
        raise NotImplementedError

    def tolerance(self, settings: Settings) -> float:
        """Grey levels by which values of the photo may be missed by choice."""
        return 0.0

    def fewer(self, rows: Sequence[Row]) -> int:
        """The batch to take after so many did not fit into memory.

        Raises:
            PreimageError: it was a single one.
        """
        return halved(rows, self.network.name)

    def sample(
        self,
        problem: Problem,
        seeds: Sequence[int],
        settings: Settings | None = None,
        listener: Listener | None = None,
        at: Mapping[str, Tensor] | None = None,
    ) -> Iterator[Candidates]:
        """See `Method.sample`; `at` takes the place of what seeds draw."""
        for _, part in self.sample_each([Ask(problem, tuple(seeds), at)], settings, listener):
            yield part

    def sample_each(
        self, asks: Iterable[Ask], settings: Settings | None = None, listener: Listener | None = None
    ) -> Iterator[tuple[Ask, Candidates]]:
        """See `Method.sample_each`: each batch is filled up with the photos that follow."""
        chosen, queue = settings or self.settings, Queue(asks, self.capabilities.many)
        while rows := queue.take(1):
            rows += queue.take(self._room(rows[0].ask.problem.resolution) - 1, rows[0])
            began = time.monotonic()
            made = unless_out_of_memory(partial(self.answers, rows, chosen))
            if made is None:  # too many for the memory there is, also for what follows
                queue.put_back(rows)
                self.batch = self.fewer(rows)
                continue
            parts = list(self._finish(rows, made, self.tolerance(chosen), (time.monotonic() - began) / len(rows)))
            error = torch.cat([part.error_before for _, part in parts])
            step = Step(0, 1, tuple(row.seed for row in rows), error, partial(made[0].clamp, 0, 1))
            stopped = listener is not None and stops(listener, step)
            yield from parts
            if stopped:
                return

    def _finish(
        self, rows: Sequence[Row], made: Answers, tolerance: float, seconds: float
    ) -> Iterator[tuple[Ask, Candidates]]:
        images, latents, before = made[0], made[1], made[2] if len(made) == 3 else None
        for ask, places in by_photo(rows):
            yield ask, finish(
                images[places], ask.problem, [rows[i].seed for i in places], method=self.name, prior=self.network.name,
                steps=1, tolerance=tolerance, began=time.monotonic() - seconds * len(places),
                latents={name: x[places] for name, x in latents.items()}, before=None if before is None else before[places],
            )  # fmt: skip
