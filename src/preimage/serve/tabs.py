"""Who is looking: one explorer for each open tab, and one loaded network of each kind for all of them."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from preimage.crops import Finder
from preimage.explorer import Explorer
from preimage.files import save_png
from preimage.history import Card
from preimage.invert.method import Method
from preimage.invert.registry import DEFAULT, load
from preimage.saving import save_card
from preimage.working import WORKER

MOST_TABS = 32
"""Beyond it the one that was idle longest is forgotten."""


@dataclass
class Shelf:
    """Loaded methods by name, each loaded once and worked with by one tab at a time.

    Attributes:
        lock: held while any of them works or is loaded.
    """

    lock: Any = field(default_factory=threading.RLock)
    _loaded: dict[str, Method] = field(default_factory=dict)

    def take(self, name: str) -> Method:
        """The method of that name.

        Raises:
            PreimageError: it cannot be loaded.
        """
        with self.lock:
            if name not in self._loaded:
                self._loaded[name] = load(name)
            return self._loaded[name]


@dataclass
class Tab:
    """One tab.

    Attributes:
        explorer: what it looks through.
        folder: where pictures lie that it shows.
        controls: settings that were turned but not applied yet.
        used: when it was looked at last, by `time.monotonic`.
        closed: whether it is gone, and its folder with it.
    """

    explorer: Explorer
    folder: Path
    controls: dict[str, Any] = field(default_factory=dict)
    used: float = 0.0
    closed: bool = False
    _count: int = 0
    _files: dict[int, tuple[Card, str]] = field(default_factory=dict)

    def file_of(self, card: Card) -> str:
        """The PNG of a candidate, the very file that is downloaded."""
        known = self._files.get(id(card))
        if known is None or known[0] is not card:
            self._files[id(card)] = known = (card, str(save_card(card, self.new_folder() / card.file)))
        return known[1]

    def picture(self, image: Tensor, name: str) -> str:
        """A PNG of a picture (3, H, W) in [0, 1] that is only looked at."""
        path = self.new_folder() / f"{name}.png"
        save_png(path, image)
        return str(path)

    def new_folder(self) -> Path:
        """A folder of its own, so that no two files of one name meet."""
        self._count += 1
        made = self.folder / f"{self._count:06d}"
        made.mkdir(parents=True)
        return made


class Tabs:
    """All open tabs.

    Args:
        root: a folder for their files.
        method: which one they begin with.
        find: what finds faces.
        shelf: of methods.
    """

    def __init__(
        self, root: Path, method: str = DEFAULT, find: Finder | None = None, shelf: Shelf | None = None
    ) -> None:
        self.method, self.find, self.shelf = method, find, shelf or Shelf()
        self._root, self._tabs, self._guard = root, dict[str, Tab](), threading.RLock()
        self._opened = 0

    def __len__(self) -> int:
        return len(self._tabs)

    def of(self, session: str) -> Tab:
        """The tab of a browser's session, made where there is none: also after the server was started anew."""
        with self._guard:
            if session not in self._tabs:
                while len(self._tabs) >= MOST_TABS:
                    self.close(min(self._tabs, key=lambda name: self._tabs[name].used))
                self._opened += 1
                self._tabs[session] = Tab(self.explorer(self.method), self._root / f"tab{self._opened:06d}")
            tab = self._tabs[session]
            tab.used = time.monotonic()
            return tab

    def explorer(self, method: str) -> Explorer:
        """A new explorer with a method of the shelf."""
        return Explorer(self.shelf.take(method), find=self.find, lock=self.shelf.lock)

    def close(self, session: str) -> None:
        """End what a tab is doing, and forget it and its files."""
        with self._guard:
            tab = self._tabs.pop(session, None)
        if tab is not None:
            tab.closed = True
            tab.explorer.stop()
            shutil.rmtree(tab.folder, ignore_errors=True)

    def close_all(self, patience: float = 10.0) -> None:
        """End what all of them are doing, and wait so many seconds for it."""
        for session in list(self._tabs):
            self.close(session)
        deadline = time.monotonic() + patience
        for thread in [thread for thread in threading.enumerate() if thread.name == WORKER]:
            thread.join(max(0.0, deadline - time.monotonic()))
