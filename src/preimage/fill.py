"""Photos into a folder of results: opened one by one, answered together where the method can, every candidate written as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import Tensor

from preimage.candidates import Candidates
from preimage.errors import OccupiedError, OutputError, PreimageError
from preimage.invert.listener import Step
from preimage.invert.method import Method
from preimage.invert.problem import Problem
from preimage.invert.queue import Ask
from preimage.invert.settings import Settings
from preimage.picking import Picking
from preimage.results import ResultFolder


class Progress(Protocol):
    """Who watches a folder job."""

    def begin(self, total: int) -> None:
        """So many candidates are wanted."""
        ...

    def step(self, step: Step) -> None:
        """A batch went one step further; may raise `preimage.invert.listener.Stop`."""
        ...

    def done(self, made: int, kept: int = 0) -> None:
        """So many candidates were written, and so many found from before."""
        ...

    def say(self, text: str) -> None:
        """Something for people."""
        ...


class Silent:
    """Nobody watches."""

    def begin(self, total: int) -> None: ...
    def step(self, step: Step) -> None: ...
    def done(self, made: int, kept: int = 0) -> None: ...
    def say(self, text: str) -> None: ...


@dataclass
class Tally:
    """What came of a folder run.

    Attributes:
        written, kept: candidates made now, candidates found from before.
        exact: of those written, how many downscale byte for byte.
        learned: of those written, how many answer to a learned degradation and therefore cannot be exact.
        l1: sum over those of the L1 that they reach, grey levels.
        tolerated: of those written, how many answer within a tolerance by choice, and are therefore not called exact.
        within: how many of them keep to it.
        tolerance: that tolerance, grey levels.
        problems: what failed, one message each.
    """

    written: int = 0
    kept: int = 0
    exact: int = 0
    learned: int = 0
    l1: float = 0.0
    tolerated: int = 0
    within: int = 0
    tolerance: float = 0.0
    problems: list[str] = field(default_factory=list)

    def add(self, part: Candidates, written: Sequence[int]) -> None:
        """Count candidates of a batch that were written."""
        self.written += len(written)
        self.exact += int(part.exact[written].sum())
        if part.l1 is not None:
            self.learned += len(written)
            self.l1 += float(part.l1[written].sum())
        elif part.tolerance:
            self.tolerated += len(written)
            self.within += int(part.within[written].sum())
            self.tolerance = part.tolerance


@dataclass(frozen=True)
class Wanted:
    """What a folder job makes of every photo.

    Attributes:
        seeds: one candidate each.
        variants: so many of each with its finest random numbers drawn anew.
        start: latents to go on from, one row for each seed.
        latents: whether latents are kept.
        overwrite: whether another photo's results are replaced.
        sides: whether the prior's smaller pictures of each are kept.
        picking: which few of the candidates are written once all are drawn; None: all.
    """

    seeds: tuple[int, ...]
    variants: int = 0
    start: Mapping[str, Tensor] | None = None
    latents: bool = False
    overwrite: bool = False
    sides: bool = False
    picking: Picking | None = None

    @property
    def count(self) -> int:
        """How many of each photo are written."""
        return len(self.seeds) if self.picking is None else self.picking.count


@dataclass
class _Photo:
    """A photo that a method is at work on.

    Attributes:
        path, stem: its file, and its folder's name.
        ask: what is wanted of it.
        left: seeds that are still to come.
        group: by seed, the first of those whose latents go into one file.
        drawn: candidates that wait until all are there to be picked from.
    """

    path: Path
    stem: str
    ask: Ask
    left: set[int]
    group: Mapping[int, int]
    drawn: list[Candidates] = field(default_factory=list)


class Fill:
    """One run over many photos.

    Few photos are open at a time: as many as the method takes together. A photo that fails fails alone.

    Args:
        method: loaded.
        settings: of the method.
        folder: where results go.
        wanted: of each photo.
        pose: a file as a problem, and what was changed of it, for people.
        watch: who watches.
        tally: what is counted.
    """

    def __init__(
        self,
        method: Method,
        settings: Settings,
        folder: ResultFolder,
        wanted: Wanted,
        pose: Callable[[Path], tuple[Problem, tuple[str, ...]]],
        watch: Progress,
        tally: Tally,
    ) -> None:
        self._method, self._settings, self._folder, self._wanted = method, settings, folder, wanted
        self._pose, self._watch, self._tally = pose, watch, tally
        self._open: dict[Ask, _Photo] = {}

    def run(self, stems: Mapping[Path, str]) -> None:
        """Make what is missing of these photos, each in the folder of its name.

        Raises:
            OutputError: nothing further can be written.
        """
        asks = self._asks(stems)
        while True:
            try:
                self._answer(asks)
                break
            except PreimageError as error:
                if _ends_all(error) or not self._open:
                    raise
                self._alone(error)
        for photo in list(self._open.values()):  # a listener stopped the run; of a part of all nothing is picked
            if self._wanted.picking is None:
                self._close(photo)

    def _asks(self, stems: Mapping[Path, str]) -> Iterator[Ask]:
        """What is missing of each photo, opened when a method has room for it."""
        folder, wanted = self._folder, self._wanted
        for path, stem in stems.items():
            try:
                problem, notes = self._pose(path)
                for note in notes:
                    self._watch.say(f"{path}: {note}")
                target = folder.claim(stem, problem.lr, wanted.overwrite)
                todo = self._missing(stem, problem.resolution)
                self._tally.kept += 0 if todo and wanted.picking else wanted.count - len(todo)
                self._watch.done(0, kept=len(wanted.seeds) - len(todo))
                if not todo and not (target / "grid.png").is_file():
                    folder.grid(stem, problem.lr, wanted.seeds)
            except PreimageError as error:
                if _ends_all(error):
                    raise
                self._failed(path, error)
                continue
            if todo:
                at = None
                if wanted.start is not None:
                    rows = [wanted.seeds.index(seed) for seed in todo]
                    at = {name: x[rows] for name, x in wanted.start.items()}
                ask, size = Ask(problem, todo, at), len(todo) if wanted.picking else self._method.together
                groups = {seed: todo[i - i % size] for i, seed in enumerate(todo)} if wanted.latents else {}
                self._open[ask] = _Photo(path, stem, ask, set(todo), groups)
                yield ask

    def _missing(self, stem: str, side: int) -> list[int]:
        """The seeds that a photo still needs: where a few are picked all, for which ones cannot be known before."""
        wanted, folder = self._wanted, self._folder
        if wanted.picking is None:
            return folder.missing(stem, wanted.seeds, wanted.variants, side)
        found = folder.picked(stem)
        whole = len(found) >= wanted.count and not folder.missing(stem, found, wanted.variants, side)
        return [] if whole and (folder.place(stem) / "grid.png").is_file() else list(wanted.seeds)

    def _answer(self, asks: Iterable[Ask]) -> None:
        for ask, part in self._method.sample_each(asks, self._settings, self._watch.step):
            if (photo := self._open.get(ask)) is None:  # it failed while others of it were on their way
                continue
            try:
                self._keep(photo, part)
            except PreimageError as error:
                if _ends_all(error):
                    raise
                self._fail(photo, error)

    def _alone(self, error: PreimageError) -> None:
        """Answer photos of a batch that failed one by one, so that only those fail whose fault it was."""
        waiting = list(self._open.values())
        if len(waiting) == 1:
            self._fail(waiting[0], error)
            return
        for photo in waiting:
            del self._open[photo.ask]
            places = [i for i, seed in enumerate(photo.ask.seeds) if seed in photo.left]
            at = None if photo.ask.at is None else {name: x[places] for name, x in photo.ask.at.items()}
            photo.ask = Ask(photo.ask.problem, [photo.ask.seeds[i] for i in places], at)
            self._open[photo.ask] = photo
            try:
                self._answer([photo.ask])
            except PreimageError as own:
                if _ends_all(own):
                    raise
                self._fail(photo, own)

    def _keep(self, photo: _Photo, part: Candidates) -> None:
        """Write candidates, or the picked ones of them when all are there."""
        if self._wanted.picking is None:
            self._write(photo, part)
        else:
            photo.drawn.append(part)
        self._watch.done(len(part))
        photo.left -= set(part.seeds)
        if not photo.left:
            self._close(photo)

    def _write(self, photo: _Photo, part: Candidates) -> None:
        """Their latents and smaller pictures first, so that a finished one never lacks them."""
        folder, stem = self._folder, photo.stem
        if self._wanted.latents and part.latents:
            for first in dict.fromkeys(photo.group[seed] for seed in part.seeds):
                places = [i for i, seed in enumerate(part.seeds) if photo.group[seed] == first]
                folder.keep_latents(stem, part.select(places), first)
        if self._wanted.sides:
            folder.write_sides(stem, part, self._method.side_outputs(part))
        written = folder.write(stem, part)
        self._write_variants(stem, part)
        self._tally.add(part, written)

    def _write_variants(self, stem: str, part: Candidates) -> None:
        variants, together = self._wanted.variants, self._method.together
        for i, seed in enumerate(part.seeds if variants else ()):
            for first in range(0, variants, together):
                drawn = range(variants)[first : first + together]
                varied = self._method.steer(part, i, {reseed_handle(self._method): 1.0}, drawn)
                if self._wanted.sides:
                    self._folder.write_sides(stem, varied, self._method.side_outputs(varied), variant_of=seed)
                self._folder.write(stem, varied, variant_of=seed)

    def _close(self, photo: _Photo) -> None:
        del self._open[photo.ask]
        seeds, sure = self._wanted.seeds, None
        if self._wanted.picking is not None:
            drawn = Candidates.cat(photo.drawn)
            part = self._wanted.picking.of(drawn)
            self._write(photo, part)
            seeds, sure = part.seeds, drawn.certainty()
        self._folder.grid(photo.stem, photo.ask.problem.lr, seeds, sure)

    def _fail(self, photo: _Photo, error: PreimageError) -> None:
        self._open.pop(photo.ask, None)
        self._failed(photo.path, error)

    def _failed(self, path: Path, error: PreimageError) -> None:
        text = str(error) if str(path) in str(error) else f"{path}: {error}"
        self._tally.problems.append(text)
        self._watch.say(f"preimage: {text}")


def reseed_handle(method: Method) -> str:
    """The handle that draws a method's finest random numbers anew; empty where it has none."""
    names = [handle.name for handle in method.capabilities.handles if handle.kind == "reseed"]
    there = [name for name in names if name in method.handle_names()]
    return there[-1] if there else ""


def _ends_all(error: PreimageError) -> bool:
    """Whether nothing further can be written, to whatever photo."""
    return isinstance(error, OutputError) and not isinstance(error, OccupiedError)
