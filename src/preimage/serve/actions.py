"""What happens when something on the page is pressed: the explorer is told, and the tab's view follows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch

from preimage.crops import Square, marked_scale
from preimage.errors import OutputError, PreimageError
from preimage.invert.controls import Control
from preimage.sample import imagined_photo
from preimage.semantics.painting import painted
from preimage.serve.tabs import Tab, Tabs
from preimage.serve.view import (
    MARKED,
    View,
    handle_label,
    looking_view,
    photo_view,
    progress_view,
    turnable,
    whole_view,
)
from preimage.working import Progress

OFTEN = 0.2
"""Seconds between two looks at what is being drawn."""
COUNT, OF = 8, 64
VARIATIONS = 4
AS_KIND: dict[str, Callable[[Any], Any]] = {
    "whole": int,
    "number": float,
    "several": tuple,
    "numbers": lambda text: tuple(int(part) for part in text.replace(",", " ").split()),
}
"""What a component's value is of a setting of that kind."""
Shown = Iterator[dict[Any, Any]]


class Actions:
    """Handlers of the page's events.

    Args:
        tabs: who is looking.
        parts: components by the names that `serve.view` uses.
    """

    def __init__(self, tabs: Tabs, parts: dict[str, Any]) -> None:
        self.tabs, self.parts = tabs, parts

    def _shown(self, view: View) -> dict[Any, Any]:
        return {self.parts[name]: value for name, value in view.items()}

    def _do(self, request: gr.Request, act: Callable[[Tab], Iterator[Progress] | None], path: str = "") -> Shown:
        """Let a tab's explorer do something, show it as it comes, and say what cannot be done."""
        tab = self.tabs.of(str(request.session_hash))
        try:
            yield from self._following(tab, act, path)
        except OutputError:
            if not tab.closed:  # nobody looks any more
                raise

    def _following(self, tab: Tab, act: Callable[[Tab], Iterator[Progress] | None], path: str) -> Shown:
        try:
            working, last = act(tab), 0.0
            if working is not None:  # the first candidates of a search may take a while
                yield self._shown(photo_view(tab) | looking_view(tab))
            for progress in working or ():
                now = time.monotonic()
                if now - last >= OFTEN or progress.made == 1:
                    last = now
                    yield self._shown(progress_view(tab, progress))
        except PreimageError as error:
            if tab.closed:
                return
            gr.Warning(told(error, path), title="That did not work", duration=12)
        yield self._shown(whole_view(tab))

    # -------------------------------------------------------------------------------------------------------- a photo

    def opened(self, photo: str | None, request: gr.Request) -> Shown:
        def act(tab: Tab) -> Iterator[Progress] | None:
            if photo is None:
                return None
            tab.explorer.open(photo, Path(photo).stem)
            return tab.explorer.draw(COUNT)

        yield from self._do(request, act, photo or "")

    def imagined(self, request: gr.Request) -> Shown:
        def act(tab: Tab) -> Iterator[Progress]:
            seed = int(time.time() * 10) % 100_000
            with self.tabs.shelf.lock:
                photo = imagined_photo(seed)
            tab.explorer.open(photo, f"imagined{seed}")
            return tab.explorer.draw(COUNT)

        yield from self._do(request, act)

    def pointed(self, request: gr.Request, event: gr.SelectData) -> Shown:
        def act(tab: Tab) -> Iterator[Progress] | None:
            state = tab.explorer.now
            if state.photo is None:
                return None
            scale = marked_scale(state.photo.pixels, MARKED)
            tab.explorer.point(event.index[0] / scale, event.index[1] / scale)
            return tab.explorer.draw(COUNT)

        yield from self._do(request, act)

    def dragged(self, way: str, request: gr.Request) -> Shown:
        """A finger went from one point to another; four numbers, in widths of the photo."""

        def act(tab: Tab) -> Iterator[Progress] | None:
            state = tab.explorer.now
            try:
                x0, y0, x1, y1 = (float(value) for value in way.split(","))
            except ValueError:
                return None
            if state.photo is None:
                return None
            width = state.photo.pixels.shape[-1]
            tab.explorer.drag((x0 * width, y0 * width), (x1 * width, y1 * width))
            return tab.explorer.draw(COUNT)

        yield from self._do(request, act)

    def adjusted(self, x: float, y: float, side: float, turn: float, pixels: float, request: gr.Request) -> Shown:
        def act(tab: Tab) -> Iterator[Progress] | None:
            square, size = Square(x, y, side, turn), int(pixels)
            if (square, size) == (tab.explorer.now.square, tab.explorer.now.pixels):
                return None
            tab.explorer.adjust(square, size)
            return tab.explorer.draw(COUNT)

        yield from self._do(request, act)

    # ----------------------------------------------------------------------------------------- the method, its inputs

    def method(self, name: str, request: gr.Request) -> Shown:
        def act(tab: Tab) -> Iterator[Progress] | None:
            tab.explorer.stop()
            found = self.tabs.explorer(name)
            found.follow(tab.explorer)
            tab.explorer, tab.controls = found, {}
            return found.draw(COUNT) if found.now.problem is not None else None

        yield from self._do(request, act)

    def handles(self, request: gr.Request) -> tuple[Any, Any, Any]:
        """Choices of the handle, and of the further pictures, of the method at hand."""
        explorer = self.tabs.of(str(request.session_hash)).explorer
        found = [(handle_label(handle), handle.name) for handle in turnable(explorer)]
        inputs = [given for given in explorer.method.capabilities.inputs if given.kind == "picture"]
        words = [(f"{given.name.replace('_', ' ')}: {given.help}", given.name) for given in inputs]
        return (
            gr.update(choices=found, value=found[0][1] if found else None),
            gr.update(choices=words, value=words[0][1] if words else None),
            gr.update(visible=bool(words)),
        )

    def turning(self, control: Control) -> Callable[[Any, gr.Request], None]:
        """What keeps a setting until it is applied."""

        def turned(value: Any, request: gr.Request) -> None:
            if value is None:
                return
            try:
                kept = AS_KIND.get(control.kind, lambda x: x)(value)
            except ValueError:
                gr.Warning(f"{control.name}: whole numbers, with commas between them.")
                return
            self.tabs.of(str(request.session_hash)).controls[control.name] = kept

        return turned

    def configured(self, request: gr.Request) -> Shown:
        def act(tab: Tab) -> Iterator[Progress] | None:
            tab.explorer.configure(**tab.controls)
            return tab.explorer.draw(COUNT) if tab.explorer.now.problem is not None else None

        yield from self._do(request, act)

    def guided(self, name: str | None, picture: str | None, request: gr.Request) -> Shown:
        def act(tab: Tab) -> Iterator[Progress] | None:
            if name is None:
                return None
            tab.explorer.guide(name, picture)
            return tab.explorer.draw(COUNT) if tab.explorer.now.problem is not None else None

        yield from self._do(request, act, picture or "")

    def unguided(self, name: str | None, request: gr.Request) -> Shown:
        yield from self.guided(name, None, request)

    # ----------------------------------------------------------------------------------------------------- candidates

    def drawn(self, request: gr.Request) -> Shown:
        yield from self._do(request, lambda tab: tab.explorer.draw(COUNT))

    def picked(self, request: gr.Request) -> Shown:
        yield from self._do(request, lambda tab: tab.explorer.pick(COUNT, OF))

    def pasted(self, request: gr.Request) -> str | None:
        tab = self.tabs.of(str(request.session_hash))
        found = tab.explorer.pasted()
        return None if found is None else tab.picture(found, "pasted")

    def stopped(self, request: gr.Request) -> None:
        self.tabs.of(str(request.session_hash)).explorer.stop()

    def chosen(self, request: gr.Request, event: gr.SelectData) -> dict[Any, Any]:
        tab = self.tabs.of(str(request.session_hash))
        if event.index < len(tab.explorer.now.cards):  # behind them lies what is being searched
            tab.explorer.choose(int(event.index))
        card = tab.explorer.now.card
        one = {"one": gr.update(value=None if card is None else tab.file_of(card), interactive=card is not None)}
        return self._shown(looking_view(tab) | one)

    def steered(self, name: str | None, amount: float, picture: str | None, request: gr.Request) -> Shown:
        def act(tab: Tab) -> Iterator[Progress] | None:
            kinds = {handle.name: handle.kind for handle in turnable(tab.explorer)}
            if name not in kinds:
                return None
            if kinds[name] == "picture" and picture is None:
                gr.Info("Drop the photo to take it from first.")
                return None
            value: Any = picture if kinds[name] == "picture" else float(amount)
            return tab.explorer.steer({name: value}, VARIATIONS)

        yield from self._do(request, act, picture or "")

    def handle(self, name: str | None, request: gr.Request) -> tuple[Any, Any, str]:
        """The slider, or the place for a photo, of the handle that was chosen, and what it does."""
        explorer = self.tabs.of(str(request.session_hash)).explorer
        found = next((handle for handle in turnable(explorer) if handle.name == name), None)
        if found is None:
            return gr.update(visible=False), gr.update(visible=False), ""
        value = 0.6 if found.kind == "reseed" else max(found.low, min(found.high, 0.0))
        slider = gr.update(visible=found.kind != "picture", minimum=found.low, maximum=found.high, value=value)
        return slider, gr.update(visible=found.kind == "picture", value=None), found.help

    def repainted(self, canvas: dict[str, Any] | None, request: gr.Request) -> Shown:
        def act(tab: Tab) -> Iterator[Progress] | None:
            before, layers = tab.explorer.regions(), (canvas or {}).get("layers") or []
            if before is None:
                return None
            labels = before
            for layer in layers:
                strokes = torch.from_numpy(np.asarray(layer.convert("RGBA")).copy()).permute(2, 0, 1).float() / 255
                labels = painted(labels, strokes)
            if torch.equal(labels, before):
                gr.Info("Choose a colour and paint on the map first.")
                return None
            return tab.explorer.repaint(labels)

        yield from self._do(request, act)

    def between(self, other: int | None, request: gr.Request) -> Shown:
        def act(tab: Tab) -> Iterator[Progress] | None:
            return None if other is None else tab.explorer.between(int(other))

        yield from self._do(request, act)

    def opened_directions(self, request: gr.Request) -> Any:
        """In what the candidates differ, with the share of it."""
        try:
            found = self.tabs.of(str(request.session_hash)).explorer.open_directions()
        except PreimageError as error:
            gr.Info(told(error))
            return gr.update(choices=[], value=None)
        said = [(f"direction {i + 1}: {share:.0%} of it", i) for i, share in enumerate(found.shares.tolist())]
        return gr.update(choices=said, value=0)

    def moved(self, direction: int | None, along: float, request: gr.Request) -> Shown:
        def act(tab: Tab) -> Iterator[Progress] | None:
            return None if direction is None or not along else tab.explorer.move(int(direction), float(along))

        yield from self._do(request, act)

    # -------------------------------------------------------------------------------------------------------- history

    def undone(self, request: gr.Request) -> Shown:
        yield from self._do(request, lambda tab: _quietly(tab.explorer.undo))

    def redone(self, request: gr.Request) -> Shown:
        yield from self._do(request, lambda tab: _quietly(tab.explorer.redo))

    def left(self, request: gr.Request) -> None:
        """A tab was closed: it costs nothing from now on."""
        self.tabs.close(str(request.session_hash))


def _quietly(act: Callable[[], object]) -> None:
    act()


def told(error: PreimageError, path: str = "") -> str:
    """An error without the folder of an upload, which means nothing to who sent it."""
    return str(error).replace(path, Path(path).name) if path else str(error)
