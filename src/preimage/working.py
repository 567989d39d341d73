"""Work in a thread of its own, told as it goes: how far it is, what it looks like, and an end when nobody listens any more."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from preimage.candidates import Candidates
from preimage.invert.listener import Listener, Step

WORKER = "preimage-work"
"""Name of the threads."""
OFTEN = 0.25
"""Seconds between two previews; drawing one costs a step."""


@dataclass(frozen=True, eq=False)
class Progress:
    """How far some work is.

    Attributes:
        made, wanted: candidates.
        step, of: of the batch at work; a method of one pass has one.
        preview: (n, 3, R, R) in [0, 1], what it looks like now; None where there is nothing new to see.
        waiting: whether somebody else's work comes first.
    """

    made: int
    wanted: int
    step: int = 0
    of: int = 1
    preview: Tensor | None = None
    waiting: bool = False


def work(
    parts: Callable[[], Iterator[Candidates]],
    wanted: int,
    lock: Any,
    going: Callable[[], bool],
    hear_by: Callable[[Listener | None], None],
) -> Iterator[Progress]:
    """Take parts until there are no more, nobody listens, or it is not going on; the lock is given up between parts.

    Args:
        parts: what makes them; it runs in another thread, all of it under the lock.
        wanted: candidates in all.
        lock: of the method.
        going: asked between parts.
        hear_by: told whom to tell of steps, and at last None.

    Yields:
        First that it has begun, then each part and preview, as they come.

    Raises:
        Exception: what `parts` raised.
    """
    told: queue.SimpleQueue[Progress | BaseException | None] = queue.SimpleQueue()
    made, left, seen = 0, threading.Event(), 0.0

    def hear(step: Step) -> None:
        nonlocal seen
        now = time.monotonic()
        if step.of > 1 and now - seen >= OFTEN:
            seen = now
            told.put(Progress(made, wanted, step.index + 1, step.of, step.preview().detach().float().cpu().clamp(0, 1)))

    def run() -> None:
        nonlocal made
        try:
            coming = parts()
            while going() and not left.is_set():
                if not lock.acquire(timeout=0.2):
                    told.put(Progress(made, wanted, waiting=True))
                    continue
                try:
                    hear_by(hear)
                    part = next(coming, None) if going() else None
                finally:
                    hear_by(None)
                    lock.release()
                if part is None:
                    break
                made = min(wanted, made + len(part))
                told.put(Progress(made, wanted))
        except BaseException as error:
            told.put(error)
        finally:
            told.put(None)

    worker = threading.Thread(target=run, name=WORKER, daemon=True)
    worker.start()
    try:
        yield Progress(0, wanted)
        while (news := told.get()) is not None:
            if isinstance(news, BaseException):
                raise news
            yield news
    finally:
        left.set()
