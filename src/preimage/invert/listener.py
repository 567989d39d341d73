"""How a method tells what it is doing, and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Step:
    """One step of a batch.

    Attributes:
        index: which step, from 0; of the candidate that is furthest where they did not begin together.
        of: how many there are at most.
        seeds: the candidates still at work, of one photo or of several.
        error: (n,) of those, RMS difference to the photo in grey levels, as far as they have come.
        preview: what they look like now, (n, 3, R, R) in [0, 1]; costs nothing until it is called.
    """

    index: int
    of: int
    seeds: tuple[int, ...]
    error: Tensor
    preview: Callable[[], Tensor]


class Stop(Exception):
    """Raised by a listener to end a run: the method yields the best it has so far, and no further batch."""


Listener = Callable[[Step], None]
"""Called after each step; it may raise `Stop`."""


class Hearing:
    """A listener that remembers whether it ended the run.

    Args:
        listener: told of every step; None: nobody.

    Attributes:
        stopped: whether it raised `Stop`.
    """

    def __init__(self, listener: Listener | None) -> None:
        self.stopped, self._listener = False, listener

    def __call__(self, step: Step) -> None:
        if self._listener is not None and stops(self._listener, step):
            self.stopped = True
            raise Stop


def stops(listener: Listener, step: Step) -> bool:
    """Tell a listener of a step; whether it ends the run."""
    try:
        listener(step)
    except Stop:
        return True
    return False
