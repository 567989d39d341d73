"""One warm method and one photo at a time: ask for more candidates, turn handles of one, stop. No files, no network protocol.

`preimage.upsample` is one user of it; an interactive page can be another. The folder job, which takes many photos, is `preimage.fill`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from preimage.candidates import Candidates
from preimage.degrade.degradation import Degradation
from preimage.degrade.learned import LearnedDegradation
from preimage.errors import MethodError
from preimage.image import as_picture, picture_size
from preimage.invert.guides import as_guides
from preimage.invert.listener import Listener, Step, Stop
from preimage.invert.method import Method
from preimage.invert.mixing import mixed
from preimage.invert.problem import Problem, Source, check_sides, reduced_size
from preimage.invert.problem import reduce as reduced
from preimage.invert.settings import Settings
from preimage.picking import Embedding, Picking
from preimage.seeds import parse_seeds


class Session:
    """See the module. Not for several photos at once; `stop` may be called from another thread.

    Args:
        method: loaded.
        listener: told of every step.

    Attributes:
        problem: the photo at hand.
        notes: what was changed of it before it was taken up, for people.
        candidates: all that were made of it, one each, in the order they came.
    """

    def __init__(self, method: Method, listener: Listener | None = None) -> None:
        self.method = method
        self.settings: Settings = method.settings
        self.problem: Problem | None = None
        self.notes: tuple[str, ...] = ()
        self.candidates: list[Candidates] = []
        self._listener, self._stopping = listener, threading.Event()

    def configure(
        self, controls: Mapping[str, Any], seeds: Sequence[int] = (), guides: Collection[str] = ()
    ) -> Settings:
        """Change controls of the preset for what is made from now on; see `Method.configure`."""
        found = self.method.configure(controls, seeds, guides)
        self.settings = found
        return found

    def pose(
        self,
        picture: object,
        degradation: Degradation | LearnedDegradation | Source | str | None = None,
        scale: float | None = None,
        border: str = "renormalise",
        reduce: int | None = None,
        **guides: Any,
    ) -> Problem:
        """Take a photo up; candidates of the one before are let go.

        Args:
            picture: a small square face in any form of `preimage.image.as_picture`.
            degradation: see `Method.pose`.
            scale, border, reduce: see `take_up`.
            **guides: further inputs of the method, in any form of `preimage.invert.guides.as_guide`; None leaves one out.

        Raises:
            PreimageError: of the kind that fits.
        """
        self.problem, self.notes = take_up(self.method, picture, degradation, scale, border, reduce, **guides)
        self.candidates = []
        return self.problem

    def more(
        self, seeds: str | int | Iterable[int], at: Mapping[str, Tensor] | None = None, again: bool = True
    ) -> Iterator[Candidates]:
        """Candidates of these seeds, batch by batch; a method without chance makes one.

        Args:
            seeds: as `preimage.seeds.parse_seeds` takes them.
            at: latents to go on from, one row for each seed (`preimage.invert.method.Method.sample`).
            again: whether seeds that were made already are made again; else they are passed over.

        Raises:
            MethodError: no photo was taken up, or the method cannot go on from latents.
        """
        if self.problem is None:
            raise MethodError("no photo was taken up; call pose() first.")
        check_continues(self.method, at)
        wanted = parse_seeds(seeds)
        if not again:
            made = {c.seeds[0] for c in self.candidates}
            wanted = tuple(seed for seed in wanted if seed not in made)
        self._stopping.clear()
        parts = self.method.sample(self.problem, one_if_alike(self.method, wanted), self.settings, self._hear, at)
        return self._keeping(parts)

    def pick(
        self,
        count: int,
        of: str | int | Iterable[int] = "0-63",
        by: str | Embedding = "pixels",
        at: Mapping[str, Tensor] | None = None,
    ) -> Candidates:
        """Draw many, and take the few that differ most (`preimage.picking.pick`).

        Args:
            count: how many.
            of: the seeds to draw, and `at`: the latents to go on from, as in `more`.
            by: what they should differ in.

        Returns:
            The picked ones, with their shares; `candidates` holds all that were drawn. After a `stop` they are picked of what there is.

        Raises:
            MethodError: no photo was taken up, or the method knows one answer only.
            InputError, WeightsError: as `preimage.picking.pick`.
        """
        check_many(self.method)
        wanted = parse_seeds(of)
        picking = Picking.plan(count, len(wanted), by)
        return picking.of(Candidates.cat(list(self.more(wanted, at))))

    def steer(self, index: int, changes: Mapping[str, Any], seeds: str | int | Iterable[int] = 0) -> Candidates:
        """Turn handles of candidate `index`; see `Method.steer`."""
        found = self.method.steer(self.candidates[index], 0, changes, parse_seeds(seeds))
        self.candidates += list(found)
        return found

    def resume(self, problem: Problem | None, settings: Settings, candidates: Iterable[Candidates] = ()) -> None:
        """Take up what was made before: a photo, settings and candidates, one each."""
        self.problem, self.settings, self.candidates = problem, settings, list(candidates)

    def between(
        self, one: Candidates, other: Candidates, shares: Sequence[float], seed: int | None = None
    ) -> Iterator[Candidates]:
        """Candidates on the way from one to another; a search goes on from there, a method of one pass answers at once.

        Args:
            one, other: a candidate each, made of the photo at hand.
            shares: how far each has gone, 0 to 1.
            seed: of all of them; None takes that of the first.

        Raises:
            MethodError: no photo was taken up, a method that goes on from nothing, candidates of different networks.
        """
        if self.problem is None:
            raise MethodError("no photo was taken up; call pose() first.")
        at = mixed(one.latents, other.latents, shares)
        check_continues(self.method, at)
        # what the two already have is not to be done to them again
        done = {"towards": -1, "interpolate": 0, "edit": ""}
        known = {f.name for f in fields(self.settings)}
        settings = self.settings.with_({name: value for name, value in done.items() if name in known})
        seeds = [one.seeds[0] if seed is None else seed] * len(shares)
        self._stopping.clear()
        problem = replace(self.problem, guides={})
        return self._keeping(self.method.sample(problem, seeds, settings, self._hear, at))

    def stop(self) -> None:
        """End what is running after its present step; what it found so far comes out."""
        self._stopping.set()

    def _keeping(self, parts: Iterator[Candidates]) -> Iterator[Candidates]:
        for part in parts:
            self.candidates += list(part)
            yield part

    def _hear(self, step: Step) -> None:
        if self._listener is not None:
            self._listener(step)
        if self._stopping.is_set():
            raise Stop


def take_up(
    method: Method,
    picture: object,
    degradation: Degradation | LearnedDegradation | Source | str | None = None,
    scale: float | None = None,
    border: str = "renormalise",
    reduce: int | None = None,
    **guides: Any,
) -> tuple[Problem, tuple[str, ...]]:
    """A picture as a problem for a method, and what was changed of it before, for people.

    Args:
        method: loaded.
        picture: a small square face in any form of `preimage.image.as_picture`.
        degradation: see `Method.pose`.
        scale: checked against the method's size where given.
        border: of a linear degradation that is named.
        reduce: side to which a larger photo is brought first (`preimage.invert.problem.reduce`); what comes out answers to that.
        **guides: further inputs of the method, in any form of `preimage.invert.guides.as_guide`; None leaves one out.

    Raises:
        PreimageError: of the kind that fits.
    """
    if (size := picture_size(picture)) is not None:
        smaller = reduced_size(*size, reduce)
        check_sides(*smaller, method.resolution_for(smaller[0]), scale)  # before anything is decoded
    found = as_picture(picture)
    lr, notes = reduced(found.pixels, reduce), found.notes
    if lr.shape != found.pixels.shape:
        notes += (f"reduced to {lr.shape[-1]}x{lr.shape[-2]} pixels, which is what its candidates answer to",)
    check_sides(lr.shape[-1], lr.shape[-2], method.resolution_for(lr.shape[-1]), scale)
    return method.pose(lr, degradation, border, **as_guides(method, guides)), notes


def one_if_alike(method: Method, seeds: Sequence[int], say: Callable[[str], None] | None = None) -> tuple[int, ...]:
    """The seeds that are worth making: one of a method without chance."""
    if method.capabilities.many or len(seeds) <= 1:
        return tuple(seeds)
    if say is not None:
        say(f"{method.name} gives the same picture for every seed: one candidate is written, that of seed {seeds[0]}.")
    return (seeds[0],)


def check_many(method: Method) -> None:
    """Refuse to pick of the candidates of a method that makes one.

    Raises:
        MethodError: with the mend.
    """
    if not method.capabilities.many:
        raise MethodError(
            f"{method.name} gives the same picture for every seed: there is nothing to pick from; leave it out."
        )


def check_continues(method: Method, at: Mapping[str, Tensor] | None) -> None:
    """Refuse latents to go on from where a method takes none.

    Raises:
        MethodError: with the mend.
    """
    if at is not None and not method.capabilities.continues:
        raise MethodError(f"{method.name} cannot go on from latents; leave them out.")
