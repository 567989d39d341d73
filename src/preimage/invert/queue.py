"""What is wanted: photos with their seeds, and the queue from which a batch takes its rows, one for each photo and seed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.errors import MethodError
from preimage.invert.problem import Problem


@dataclass(frozen=True, eq=False)
class Ask:
    """Candidates that are wanted of one photo.

    Attributes:
        problem: made by `Method.pose`.
        seeds: one candidate each.
        at: latents to go on from (`Candidates.latents`), one row for each seed; None begins anew.

    Raises:
        MethodError: latents that are not one row for each seed.
    """

    problem: Problem
    seeds: Sequence[int]
    at: Mapping[str, Tensor] | None = None

    def __post_init__(self) -> None:
        for name, x in (self.at or {}).items():
            if len(x) != len(self.seeds):
                raise MethodError(
                    f"{name} of {len(x)} candidates to go on from, but {len(self.seeds)} seeds; give one for each."
                )

    def fits(self, other: Ask) -> bool:
        """Whether candidates of both can be rows of one batch."""
        one, two = self.problem, other.problem
        return self is other or (
            one.lr.shape == two.lr.shape
            and one.resolution == two.resolution
            and (one.degradation is two.degradation or one.degradation == two.degradation)
            and one.guides.keys() == two.guides.keys()
            and all(guide is two.guides[name] for name, guide in one.guides.items())
            and (self.at or {}).keys() == (other.at or {}).keys()
        )


@dataclass(frozen=True, eq=False)
class Row:
    """One candidate that is wanted.

    Attributes:
        ask: of which photo.
        place: among its seeds.
    """

    ask: Ask
    place: int

    @property
    def seed(self) -> int:
        return self.ask.seeds[self.place]


class Queue:
    """Rows that wait, photo by photo. A photo is asked for when a batch has room for it, so few are held at a time.

    Args:
        asks: photos; may be lazy.
        many: whether every seed is a row; else the first of each photo is the only one.
    """

    def __init__(self, asks: Iterable[Ask], many: bool = True) -> None:
        self._coming = (Row(ask, i) for ask in asks for i in range(len(ask.seeds) if many else min(1, len(ask.seeds))))
        self._back: deque[Row] = deque()

    def take(self, most: int, beside: Row | None = None) -> list[Row]:
        """The next rows that can be one batch.

        Args:
            most: how many there is room for.
            beside: a row that is in the batch already.
        """
        taken: list[Row] = []
        while len(taken) < most and (row := self._next()) is not None:
            first = beside or (taken or [row])[0]
            if not row.ask.fits(first.ask):
                self._back.appendleft(row)
                break
            taken.append(row)
        return taken

    def put_back(self, rows: Sequence[Row]) -> None:
        """Rows that were taken for nothing; they come first again."""
        self._back.extendleft(reversed(rows))

    def _next(self) -> Row | None:
        return self._back.popleft() if self._back else next(self._coming, None)


def photos_of(rows: Sequence[Row]) -> Tensor:
    """The rows' photos, (n, 3, h, w)."""
    return torch.stack([row.ask.problem.lr for row in rows])


def latents_of(rows: Sequence[Row]) -> dict[str, Tensor] | None:
    """The rows' latents to go on from, None where there are none."""
    if rows[0].ask.at is None:
        return None
    return {name: torch.stack([(row.ask.at or {})[name][row.place] for row in rows]) for name in rows[0].ask.at}


def by_photo(rows: Sequence[Row]) -> Iterator[tuple[Ask, list[int]]]:
    """Each photo of a batch, and the places of its rows in it."""
    for ask in dict.fromkeys(row.ask for row in rows):
        yield ask, [i for i, row in enumerate(rows) if row.ask is ask]
