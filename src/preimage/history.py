"""What an explorer has come to, moment by moment: states that never change, and a history of them with undo and redo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from torch import Tensor

from preimage.candidates import Candidates
from preimage.crops import Photo, Square
from preimage.invert.problem import Problem
from preimage.invert.settings import Settings

MOST = 100
"""Moments that are kept; candidates are shared between them."""


@dataclass(frozen=True, eq=False)
class Card:
    """One candidate of a gallery.

    Attributes:
        candidate: one.
        file: its name, which no other one of the explorer has.
        story: how it came about, such as "seed 3" or "seed 3, detail 0.5".
        fresh: whether its seed alone leads to it.
    """

    candidate: Candidates
    file: str
    story: str
    fresh: bool = True


@dataclass(frozen=True, eq=False)
class State:
    """One moment.

    Attributes:
        did: what led here, for people.
        photo: which is open.
        square: where its face is cut out.
        pixels: to how many pixels a side.
        problem: what the method is asked.
        settings: of the method.
        guides: further inputs, as a user gave them.
        cards: the gallery.
        chosen: index of the card that is looked at.
        sure: (H, W), what the photo pins down, where the cards were picked of many more; None where they tell it themselves.
    """

    did: str = ""
    photo: Photo | None = None
    square: Square | None = None
    pixels: int = 0
    problem: Problem | None = None
    settings: Settings | None = None
    guides: Mapping[str, Any] = field(default_factory=dict)
    cards: tuple[Card, ...] = ()
    chosen: int | None = None
    sure: Tensor | None = None

    def with_(self, **changes: Any) -> State:
        """The moment that differs in these."""
        return replace(self, **changes)

    @property
    def card(self) -> Card | None:
        """The one that is looked at."""
        return None if self.chosen is None else self.cards[self.chosen]


@dataclass(frozen=True)
class History:
    """Moments in their order, and where in them one stands.

    Attributes:
        states: at least one; the oldest are forgotten beyond `MOST`.
        at: index of the present one.
    """

    states: tuple[State, ...] = (State(),)
    at: int = 0

    @property
    def now(self) -> State:
        return self.states[self.at]

    def then(self, state: State) -> Self:
        """The history in which this follows; what had been undone is gone."""
        states = (*self.states[: self.at + 1], state)[-MOST:]
        return replace(self, states=states, at=len(states) - 1)

    def instead(self, state: State) -> Self:
        """The history with this in the place of the present moment."""
        return replace(self, states=(*self.states[: self.at], state, *self.states[self.at + 1 :]))

    def undo(self) -> Self:
        """One moment back, if there is one."""
        return replace(self, at=max(0, self.at - 1))

    def redo(self) -> Self:
        """One moment forth, if there is one."""
        return replace(self, at=min(len(self.states) - 1, self.at + 1))

    def dropped(self) -> Self:
        """The history without the present moment and those after it."""
        return self if self.at == 0 else replace(self, states=self.states[: self.at], at=self.at - 1)
