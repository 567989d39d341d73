"""The progress bar of a folder job."""

from __future__ import annotations

import sys
from typing import Any

from preimage.invert.listener import Step


class Bar:
    """Candidates done, candidates per second, steps of the batch at work (`preimage.fill.Progress`)."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def begin(self, total: int) -> None:
        from tqdm import tqdm

        self.__exit__()
        self._bar = tqdm(total=total, unit="candidate", disable=None, dynamic_ncols=True)

    def step(self, step: Step) -> None:
        if step.of > 1 and step.index % 5 == 0:
            self._bar.set_postfix_str(f"step {step.index}, {len(step.seeds)} searching")

    def done(self, made: int, kept: int = 0) -> None:
        self._bar.total = (self._bar.total or 0) - kept
        self._bar.update(made)

    def say(self, text: str) -> None:
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)
