"""The explorer without a page: one photo, its candidates, what is turned, painted and mixed, and every step back.

A page, a notebook or a script drives it; all that it knows lies in states that never change (`preimage.history`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from preimage.candidates import Candidates, certainty
from preimage.crops import Finder, Square, cut, open_photo, squares_by, whole
from preimage.drawing import COUNT, Drawing, Made
from preimage.errors import InputError
from preimage.faces.align import paste
from preimage.faces.photo import enlarge, enlargement
from preimage.history import State
from preimage.image import picture_size
from preimage.invert.guides import as_guides
from preimage.invert.method import Method
from preimage.invert.registry import DEFAULT, load
from preimage.left_open import OpenDirections, open_directions
from preimage.saving import Proof, prove, save_cards
from preimage.viewer import as_html
from preimage.working import Progress

DIRECTIONS = 4
"""Of what is left open that are shown at once."""


class Explorer(Drawing):
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
        super().__init__(load(method, **built) if isinstance(method, str) else method, lock)
        self.find = find

    # --------------------------------------------------------------------------------------------------- what there is

    def certainty(self) -> Tensor | None:
        """What the photo pins down, over the candidates that seeds alone lead to: (H, W) in (0, 1]; None below two of them."""
        if self.now.sure is not None:
            return self.now.sure
        fresh = [card.candidate.images for card in self.now.cards if card.fresh]
        return certainty(torch.cat(fresh)) if len(fresh) > 1 else None

    def open_directions(self, most: int = DIRECTIONS) -> OpenDirections:
        """In which directions the candidates that seeds alone lead to differ, see `preimage.left_open`.

        Raises:
            InputError: too few candidates, all alike, or of a degradation that is not linear.
        """
        fresh = [replace(card.candidate, picked="", share=None) for card in self.now.cards if card.fresh]
        if len(fresh) < 3:
            raise InputError(
                f"{len(fresh)} candidates of seeds alone say too little of what is open; draw three or more."
            )
        return open_directions(Candidates.cat(fresh), min(most, len(fresh) - 1))

    def move(self, direction: int, amount: float) -> Iterator[Progress]:
        """Move the candidate that is looked at along a direction of `open_directions`; what comes of it joins the gallery.

        Args:
            direction: index.
            amount: in standard deviations of the candidates, which lie within about ±2.

        Raises:
            MethodError: no candidate is looked at.
            InputError: as `open_directions`.
        """
        card, found = self._looked_at(), self.open_directions()

        def parts() -> Iterator[Made]:
            yield (
                found.move(direction, amount, start=card.candidate),
                [f"{card.story}, direction {direction + 1} {amount:+g}"],
            )

        return self._run(f"moved along direction {direction + 1}", 1, parts)

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

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> State:
        """Move the square, change its side, or draw a new one, as a finger does (`preimage.crops.Square.dragged`)."""
        if self.now.square is None:
            raise InputError("no photo is open; open one first.")
        return self.adjust(self.now.square.dragged(start, end))

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
        return as_html(self.now, self.certainty())


def usual_pixels(method: Method) -> int:
    """To how many pixels a side a larger face is brought where nobody says: what the method's network learned from, or a sixteenth
    of its pictures' side and at least 16.
    """
    sizes = [getattr(getattr(network, "config", None), "lr_size", None) for network in method.networks.values()]
    learned = [size for size in sizes if isinstance(size, int)]
    return max(learned, default=max(16, method.resolution // 16))


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
