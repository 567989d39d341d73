"""Candidates of an explorer: drawn, picked, turned, painted and mixed, each a moment of a history that can be undone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from preimage.candidates import Candidates
from preimage.errors import InputError, MethodError
from preimage.history import Card, History, State
from preimage.invert.listener import Step
from preimage.invert.method import Handle, Method
from preimage.picking import Picking
from preimage.results import seed_file
from preimage.session import Session, check_many
from preimage.working import Progress, work

MOST_CARDS = 256
"""Candidates in a gallery."""
Made = tuple[Candidates, Sequence[str] | None]
"""Candidates and their stories; None where they are not to be kept."""
COUNT = 8
"""Candidates that are drawn at once where nothing else is asked for."""


class Drawing:
    """A gallery that grows, of the problem in its present moment; `preimage.explorer.Explorer` is one.

    Its methods may be called from several threads; `stop` ends what another one is drawing.

    Args:
        method: loaded.
        lock: held while the method works; those that share a method share it.
    """

    def __init__(self, method: Method, lock: Any = None) -> None:
        self.lock = lock or threading.RLock()
        self._session = Session(method, self._hear)
        self._guard, self._round, self._named = threading.RLock(), 0, 0
        self._running: State | None = None
        self._sure: Tensor | None = None
        self._tell: Callable[[Step], None] | None = None
        self._history = History((State(settings=method.settings),))

    # --------------------------------------------------------------------------------------------------- what there is

    @property
    def method(self) -> Method:
        return self._session.method

    @property
    def now(self) -> State:
        """The present moment."""
        return self._history.now

    @property
    def can_undo(self) -> bool:
        return self._history.at > 0

    @property
    def can_redo(self) -> bool:
        return self._history.at < len(self._history.states) - 1

    @property
    def handles(self) -> tuple[Handle, ...]:
        """What can be turned on a candidate."""
        return self.method.handles

    @property
    def lr(self) -> Tensor:
        """(3, h, w), the small face that all candidates answer to.

        Raises:
            InputError: no photo is open.
        """
        if self.now.problem is None:
            raise InputError("no photo is open; open one first.")
        return self.now.problem.lr

    # ----------------------------------------------------------------------------------------------------- candidates

    def draw(self, count: int = COUNT) -> Iterator[Progress]:
        """So many more candidates, of the seeds that follow; whoever stops listening stops the work.

        Args:
            count: how many; a method without chance makes one in all.

        Yields:
            How far it is, with every candidate that is ready already in `now`.
        """
        _, state = self.lr, self.now
        first = max((card.candidate.seeds[0] + 1 for card in state.cards if card.fresh), default=0)
        if not self.method.capabilities.many:
            count = 0 if state.cards else 1
        seeds = range(first, first + min(count, MOST_CARDS - len(state.cards)))

        def parts() -> Iterator[Made]:
            at = 0
            for size in _portions(len(seeds), self.method.together):
                some = seeds[at : at + size]
                at += size
                for part in self._session.more(some):
                    yield part, [f"seed {seed}" for seed in part.seeds]

        return self._run("imagined more", len(seeds), parts, fresh=True)

    def pick(self, count: int = COUNT, of: int = 64, by: str = "pixels") -> Iterator[Progress]:
        """Draw many, and show the few of them that differ most, each with the share of all that it stands for.

        Args:
            count: how many are shown; they take the gallery's place.
            of: how many are drawn, the first seeds.
            by: what they should differ in, see `preimage.picking.find_embedding`.

        Raises:
            InputError: numbers that leave nothing to choose, no photo, or an embedding that is none.
            MethodError: a method without chance.
        """
        check_many(self.method)
        picking, _ = Picking.plan(count, of, by), self.lr

        def parts() -> Iterator[Made]:
            drawn = []
            for part in self._session.more(range(of)):
                drawn.append(part)
                yield part, None
            many = Candidates.cat(drawn)
            few = picking.of(many)
            shares = [0.0] if few.share is None else few.share.tolist()
            self._sure = many.certainty()
            yield few, [f"seed {seed} · {share:.0%}" for seed, share in zip(few.seeds, shares, strict=True)]

        start = self.now.with_(cards=(), chosen=None)
        return self._run(f"picked {count} of {of}", of, parts, fresh=True, start=start)

    def steer(self, changes: Mapping[str, Any], count: int = 1) -> Iterator[Progress]:
        """Turn handles of the candidate that is looked at (`handles`); what comes of it joins the gallery.

        Args:
            changes: value by name of the handle.
            count: so many, where chance plays a part.

        Raises:
            MethodError: no candidate is looked at, or see `Method.steer`.
        """
        card = self._looked_at()
        kinds = {handle.name: handle.kind for handle in self.handles}
        chance = any(kinds.get(name) == "reseed" for name in changes)
        said = ", ".join(f"{k} {x:g}" if isinstance(x, int | float) else k for k, x in changes.items())
        # not the numbers that the candidate already has: moving towards those would change nothing
        seeds = range(card.candidate.seeds[0] + 1, card.candidate.seeds[0] + 1 + (count if chance else 1))

        def parts() -> Iterator[Made]:
            for seed in seeds:
                made = self._session.steer(0, changes, seed)
                yield made, [f"{card.story}, {said}" + (f" ({seed})" if chance else "")]

        return self._run(f"turned {said}", len(seeds), parts)

    def repaint(self, labels: Tensor) -> Iterator[Progress]:
        """Answer the candidate that is looked at with another map of regions (H, W), numbers of `LABELS`.

        Raises:
            MethodError: no candidate is looked at, or the method knows no regions.
        """
        names = [handle.name for handle in self.handles if handle.kind == "labels"]
        if not names:
            raise MethodError(f"{self.method.name} knows no regions; choose deepsee to paint some.")
        return self.steer({names[0]: labels.long()})

    def between(self, other: int, count: int = 3) -> Iterator[Progress]:
        """What lies between the candidate that is looked at and another one of the gallery; it joins the gallery.

        Args:
            other: index of that one.
            count: how many, evenly spaced.

        Raises:
            MethodError: no such two, or see `Session.between`.
        """
        one = self._looked_at()
        if not 0 <= other < len(self.now.cards) or other == self.now.chosen:
            raise MethodError("choose another candidate to go to; this one is looked at already.")
        two = self.now.cards[other]
        shares = [(i + 1) / (count + 1) for i in range(count)]

        def parts() -> Iterator[Made]:
            done = 0
            for part in self._session.between(one.candidate, two.candidate, shares):
                yield part, [f"{shares[done + i]:.0%} from {one.story} to {two.story}" for i in range(len(part))]
                done += len(part)

        return self._run(f"went from {one.story} to {two.story}", count, parts)

    def choose(self, index: int | None) -> State:
        """Look at a candidate of the gallery; no step of the history.

        Raises:
            MethodError: there is none of that index.
        """
        if index is not None and not 0 <= index < len(self.now.cards):
            raise MethodError(f"there is no candidate {index}; the gallery has {len(self.now.cards)}.")
        with self._guard:
            self._history = self._history.instead(self.now.with_(chosen=index))
            return self.now

    def stop(self) -> None:
        """End what is being drawn, after its present step; what it found stays."""
        with self._guard:
            self._round += 1
            self._session.stop()

    def _looked_at(self) -> Card:
        card = self.now.card
        if card is None:
            raise MethodError("no candidate is looked at; choose one first.")
        return card

    def _run(
        self,
        did: str,
        wanted: int,
        parts: Callable[[], Iterator[Made]],
        fresh: bool = False,
        start: State | None = None,
    ) -> Iterator[Progress]:
        """Work in a thread of its own, a moment of the history that grows from `start` as parts of it are ready."""
        self.stop()
        state, turn = self.now, self._round
        settings = state.settings or self.method.settings
        grown = False
        self._sure = None if fresh else state.sure
        self._running = self._then((start or state).with_(did=did, sure=self._sure))

        def going() -> bool:
            return self._round == turn

        def made() -> Iterator[Candidates]:
            nonlocal grown
            self._session.resume(state.problem, settings, () if state.card is None else (state.card.candidate,))
            for part, stories in parts():
                with self._guard:
                    if not going():
                        return
                    if stories is not None:
                        grown = True
                        self._add(part, stories, fresh)
                yield part

        try:
            yield from work(made, wanted, self.lock, going, self._hear_by)
        finally:
            with self._guard:
                if going():
                    self.stop()
                if self.now is self._running and not grown:  # nothing came of it
                    self._history = self._history.dropped()

    def _add(self, part: Candidates, stories: Sequence[str], fresh: bool) -> None:
        cards = []
        for candidate, story in zip(part, stories, strict=True):
            file = seed_file(candidate.seeds[0])
            if not fresh:
                self._named += 1
                file = file.replace(".png", f"_step{self._named:04d}.png")
            cards.append(Card(candidate, file, story, fresh))
        chosen = self.now.chosen if fresh and self.now.chosen is not None else len(self.now.cards)
        self._running = self.now.with_(cards=(*self.now.cards, *cards), chosen=chosen, sure=self._sure)
        self._history = self._history.instead(self._running)

    def _hear_by(self, tell: Callable[[Step], None] | None) -> None:
        self._tell = tell

    def _hear(self, step: Step) -> None:
        if self._tell is not None:
            self._tell(step)

    # -------------------------------------------------------------------------------------------------------- history

    def undo(self) -> State:
        """One step back, if there is one."""
        with self._guard:
            self.stop()
            self._history = self._history.undo()
            return self.now

    def redo(self) -> State:
        """One step forth, if there is one."""
        with self._guard:
            self.stop()
            self._history = self._history.redo()
            return self.now

    def _then(self, state: State) -> State:
        with self._guard:
            self._history = self._history.then(state)
        return state


def _portions(count: int, together: int) -> list[int]:
    """Few at first, so that the first ones are seen early."""
    out, size = list[int](), 1
    while count > 0:
        out.append(min(size, together, count))
        count -= out[-1]
        size = min(2 * size + 1, 8)
    return out
