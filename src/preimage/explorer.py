"""The explorer without a page: one photo, its candidates, what is turned, painted and mixed, and every step back.

A page, a notebook or a script drives it; all that it knows lies in states that never change (`preimage.history`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from preimage.candidates import Candidates, certainty
from preimage.crops import Finder, Square, cut, open_photo, squares_by, whole
from preimage.errors import InputError, MethodError
from preimage.faces.align import paste
from preimage.faces.photo import enlarge, enlargement
from preimage.history import Card, History, State
from preimage.image import picture_size
from preimage.invert.guides import as_guides
from preimage.invert.listener import Step
from preimage.invert.method import Handle, Method
from preimage.invert.registry import DEFAULT, load
from preimage.picking import Picking
from preimage.results import seed_file
from preimage.saving import Proof, prove, save_cards
from preimage.session import Session, check_many
from preimage.working import Progress, work

MOST_CARDS = 256
"""Candidates in a gallery."""
Made = tuple[Candidates, Sequence[str] | None]
"""Candidates and their stories; None where they are not to be kept."""
COUNT = 8
"""Candidates that are drawn at once where nothing else is asked for."""


class Explorer:
    """See the module. Its methods may be called from several threads; `stop` ends what another one is drawing.

    Args:
        method: a name of `list_methods()`, or a loaded method, which several explorers may share.
        find: what finds faces in a photo; None takes the square in its middle.
        lock: held while the method works; explorers that share a method share it.
        **built: how to load a method that was named (`preimage.load`).

    Raises:
        PreimageError: a method that cannot be loaded.
    """

    def __init__(
        self,
        method: str | Method = DEFAULT,
        *,
        find: Finder | None = None,
        lock: Any = None,
        **built: Any,
    ) -> None:
        self.lock = lock or threading.RLock()
        self.find = find
        self._session = Session(load(method, **built) if isinstance(method, str) else method, self._hear)
        self._guard, self._round, self._named = threading.RLock(), 0, 0
        self._running: State | None = None
        self._sure: Tensor | None = None
        self._tell: Callable[[Step], None] | None = None
        self._history = History((State(settings=self.method.settings),))

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

    def certainty(self) -> Tensor | None:
        """What the photo pins down, over the candidates that seeds alone lead to: (H, W) in (0, 1]; None below two of them."""
        if self.now.sure is not None:
            return self.now.sure
        fresh = [card.candidate.images for card in self.now.cards if card.fresh]
        return certainty(torch.cat(fresh)) if len(fresh) > 1 else None

    def regions(self) -> Tensor | None:
        """The map of regions (H, W) of the candidate that is looked at, numbers of `semantics.labels.LABELS`; None where it has none."""
        card = self.now.card
        kinds = {handle.name for handle in self.handles if handle.kind == "labels"}
        return None if card is None else next((x[0] for k, x in card.candidate.latents.items() if k in kinds), None)

    # -------------------------------------------------------------------------------------------------------- a photo

    def open(self, photo: object, name: str | None = None) -> State:
        """Open a photo and look for faces in it; a small square one is a face already.

        Args:
            photo: in any form of `preimage.image.as_picture`.
            name: for files; None takes the file's own.

        Raises:
            InputError: no picture, or one of more than `preimage.crops.MOST_PIXELS`.
        """
        opened = open_photo(photo, name, self.find, self.method.resolution)
        self.stop()
        state = State(f"opened {opened.name}", opened, settings=self.now.settings, guides=self.now.guides)
        return self._posed(state, opened.faces[0], None)

    def follow(self, other: Explorer) -> State:
        """Open what another explorer has open, such as one of another method, with the same square."""
        state = other.now
        if state.photo is None or state.square is None:
            return self.now
        self.stop()
        started = State(f"took {self.method.name}", state.photo, settings=self.now.settings)
        return self._posed(started, state.square, state.pixels)

    def adjust(self, square: Square, pixels: int | None = None) -> State:
        """Cut the face out elsewhere, or to another size; its candidates begin anew.

        Args:
            square: where.
            pixels: of the small face, a side; None takes as many as there are, or as the method has learned to answer.
        """
        if self.now.photo is None:
            raise InputError("no photo is open; open one first.")
        self.stop()
        return self._posed(self.now.with_(did="moved the square"), square, pixels)

    def point(self, x: float, y: float) -> State:
        """Take the face at a point of the photo, the smallest of several; where there is none, move the square there."""
        if self.now.photo is None or self.now.square is None:
            raise InputError("no photo is open; open one first.")
        there = [face for face in self.now.photo.faces if face.holds(x, y) and face != self.now.square]
        square = self.now.square
        return self.adjust(min(there, key=lambda face: face.side, default=Square(x, y, square.side, square.turn)))

    def squares(self) -> tuple[tuple[Square, ...], int | None]:
        """The faces that were found and the square at work, and which of them that is; for `preimage.crops.marked`."""
        photo, square = self.now.photo, self.now.square
        if photo is None or square is None:
            return (), None
        found = photo.faces if square in photo.faces else (*photo.faces, square)
        return found, found.index(square)

    def most_pixels(self, square: Square) -> int:
        """How many pixels a side the face in a square may be given: as many as it has, below those of the candidates."""
        side = max(1, round(square.side))
        return min(side, self.method.resolution_for(side) - 1)

    def _posed(self, state: State, square: Square, pixels: int | None) -> State:
        assert state.photo is not None
        most = self.most_pixels(square)
        pixels = min(most, usual_pixels(self.method)) if pixels is None else max(1, min(pixels, most))
        small = cut(state.photo.pixels, square, pixels)
        with self.lock:
            problem = self.method.pose(small, None, **as_guides(self.method, state.guides))
        state = state.with_(square=square, pixels=pixels, problem=problem, cards=(), chosen=None)
        return self._then(state)

    # ---------------------------------------------------------------------------------------- settings, further inputs

    def configure(self, **controls: Any) -> State:
        """Change settings of the method; its candidates begin anew.

        Raises:
            MethodError: one that does not exist, or out of its range.
        """
        assert self.now.settings is not None
        settings = self.now.settings.with_(controls)
        with self.lock:
            self.method.check(settings, (), self.now.guides.keys())
        self.stop()
        return self._then(self.now.with_(did="changed settings", settings=settings, cards=(), chosen=None))

    def guide(self, name: str, value: object) -> State:
        """Give a further input of the method (`Capabilities.inputs`), or take it back with None; its candidates begin anew.

        Raises:
            InputError, MethodError: one that does not exist or does not fit.
        """
        guides = {key: x for key, x in self.now.guides.items() if key != name} | (
            {} if value is None else {name: value}
        )
        with self.lock:
            self.method.check(self.now.settings or self.method.settings, (), guides.keys())
        state = self.now.with_(did=f"gave {name}" if value is not None else f"took back {name}", guides=guides)
        self.stop()
        if state.square is None:
            return self._then(state)
        return self._posed(state, state.square, state.pixels)

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
        self._sure, grown = None, False
        self._running = self._then((start or state).with_(did=did, sure=None))

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

    # ---------------------------------------------------------------------------------------------------------- files

    def proof(self) -> Proof:
        """What the file of the candidate that is looked at proves, read again by Pillow.

        Raises:
            MethodError: none is looked at.
        """
        return prove(self._looked_at().candidate)

    def pasted(self) -> Tensor | None:
        """The candidate that is looked at in its place in the photo, which is enlarged around it (`preimage.faces.photo`).

        Returns:
            (3, H', W') in [0, 1]; None where nothing is looked at, or the face is all of the photo.
        """
        photo, square, card = self.now.photo, self.now.square, self.now.card
        if photo is None or square is None or card is None or square == whole(photo.pixels):
            return None
        height, width = photo.pixels.shape[-2:]
        image = card.candidate.images[0]
        times = enlargement(width, height, [square.side], image.shape[-1])
        corners = torch.tensor(square.corners, dtype=torch.float64)
        return paste(enlarge(photo.pixels, times), image, corners * times)

    def save(self, folder: str | Path) -> list[Path]:
        """All candidates of the gallery into a folder of results, which `preimage verify` proves.

        Returns:
            Their files.

        Raises:
            InputError: no candidates, or a folder that holds something else.
            OutputError: it cannot be written.
        """
        return save_cards(self.now, self.method, folder)

    def _repr_html_(self) -> str:
        from preimage.viewer import as_html

        return as_html(self)


def usual_pixels(method: Method) -> int:
    """To how many pixels a side a larger face is brought where nobody says: what the method's network learned from, or a sixteenth
    of its pictures' side and at least 16.
    """
    sizes = [getattr(getattr(network, "config", None), "lr_size", None) for network in method.networks.values()]
    learned = [size for size in sizes if isinstance(size, int)]
    return max(learned, default=max(16, method.resolution // 16))


def _portions(count: int, together: int) -> list[int]:
    """Few at first, so that the first ones are seen early."""
    out, size = list[int](), 1
    while count > 0:
        out.append(min(size, together, count))
        count -= out[-1]
        size = min(2 * size + 1, 8)
    return out


def explore(photo: object, count: int = COUNT, *, method: str | Method = DEFAULT, **settings: Any) -> Explorer:
    """Open a photo and draw some candidates: an explorer to go on with, which a notebook shows as pictures.

    Args:
        photo: in any form of `preimage.image.as_picture`.
        count: how many to begin with.
        method: a name of `list_methods()`, or a loaded method.
        **settings: of the method, such as `temperature=0.7`.

    Returns:
        The explorer; as the last line of a notebook's cell it is seen as its pictures.

    Raises:
        PreimageError: of the kind that fits.
    """
    picture_size(photo)  # before a method is loaded: a file that is none shows here
    found = Explorer(method, find=squares_by())
    if settings:
        found.configure(**settings)
    found.open(photo)
    for _ in found.draw(count):
        pass
    found.choose(0)
    return found
