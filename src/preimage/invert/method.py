"""The contract of a method: a photo goes in, batches of candidates come out as they are ready.

`Method` is the base of all of them. A method of one pass writes `presets`, `load` and `sample` (ten lines, with
`preimage.invert.finish`); whatever else it can do it states in `Capabilities`, which anybody reads without its networks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor

from preimage.candidates import Candidates
from preimage.declaration import declared
from preimage.degrade.degradation import Degradation
from preimage.degrade.learned import LearnedDegradation
from preimage.device import resolve_device, resolve_precision
from preimage.errors import MethodError, OperatorError
from preimage.image import check_lr
from preimage.invert.listener import Hearing, Listener
from preimage.invert.problem import Problem, Source, degradation_for, find_degradation
from preimage.invert.queue import Ask
from preimage.invert.settings import Settings
from preimage.memory import AUTO, MOST, parse_batch
from preimage.nets.fingerprint import fingerprint


@dataclass(frozen=True)
class Input:
    """A further input that a method takes beside the photo.

    Attributes:
        name: of the guide in `Problem.guides`.
        kind: "picture" (3, R, R) in [0, 1], or "labels" (R, R) whole numbers.
        required: whether it cannot do without.
        help: one sentence.
        words: what may stand in its place, and the setting that takes it.
        enlarge: whether a picture smaller than the method's is enlarged; else it is refused.
    """

    name: str
    kind: Literal["picture", "labels"]
    required: bool = False
    help: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    enlarge: bool = False


@dataclass(frozen=True)
class Handle:
    """Something a user can turn on a candidate that is there already.

    Attributes:
        name: what `Method.steer` calls it.
        kind: "reseed" draws some of its random numbers anew, the value says how far to move to them; "slider" takes the value as
            it is; "labels" and "picture" take such an input in its place.
        low, high: range of the value.
        regions: parts of the face that can be turned apart; empty: the whole.
        help: one sentence.
    """

    name: str
    kind: Literal["reseed", "slider", "labels", "picture"]
    low: float = 0.0
    high: float = 1.0
    regions: tuple[str, ...] = ()
    help: str = ""


@dataclass(frozen=True)
class Capabilities:
    """What a method can do, as data.

    Attributes:
        summary: one sentence.
        paper: where it comes from.
        prior: whether it searches or decodes with a prior.
        weights: whether it has a network of its own.
        many: different seeds give different pictures; else it makes one candidate, whatever seeds are asked for.
        degradations: the kinds it answers to (`Degradation.kind`).
        default_degradation: the one it assumes where none is given.
        inputs: further inputs.
        handles: what can be turned on a candidate.
        continues: whether a search can go on from the latents of candidates (`sample(…, at=)`).
    """

    summary: str
    paper: str = ""
    prior: bool = False
    weights: bool = False
    many: bool = True
    degradations: tuple[str, ...] = ("linear",)
    default_degradation: str = "bicubic"
    inputs: tuple[Input, ...] = ()
    handles: tuple[Handle, ...] = ()
    continues: bool = False


class Method:
    """A way from a photo to candidates: a base that refuses what the capabilities do not take.

    The same seed gives the same picture for any batch size or order.

    Args:
        prior: a loaded prior, an embedded name, a path or hub id, or None for the default.
        weights: the same of the method's own network.
        preset: one of `presets`.
        device, precision: as in `preimage.device`.
        batch: how many candidates run together; "auto" takes what fits into memory. A batch that does not fit is halved.

    Raises:
        MethodError: an unknown preset, a batch that is none, networks that the method does not take.
        WeightsError: a network that cannot be loaded.
    """

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    presets: ClassVar[Mapping[str, Settings]]
    """Named settings, one of them "default"; all of one class, a frozen dataclass of the method's own."""

    def __init__(
        self,
        *,
        prior: Any = None,
        weights: Any = None,
        preset: str = "default",
        device: str = "auto",
        precision: str = "auto",
        batch: int | str = AUTO,
    ) -> None:
        if preset not in self.presets:
            raise MethodError(f"preset {preset!r:.60} is unknown; {self.name} has {', '.join(self.presets)}.")
        for given, taken, what in (
            (prior, self.capabilities.prior, "prior"),
            (weights, self.capabilities.weights, "weights"),
        ):
            if given is not None and not taken:
                other = "weights" if what == "prior" and self.capabilities.weights else ""
                mend = f"give its own network as {other}" if other else f"leave out {what}"
                raise MethodError(f"{self.name} has no use for {what} ({given!r:.60}); {mend}.")
        self.settings = self.presets[preset]
        self.batch = parse_batch(batch)
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        self.load(prior, weights)

    def load(self, prior: Any, weights: Any) -> None:
        """Load the networks, onto `self.device`, frozen."""

    @property
    def resolution(self) -> int:
        """Side of the pictures it makes; of one that makes several, the side that it learned."""
        raise NotImplementedError

    def resolution_for(self, side: int) -> int:
        """Side of the picture that it makes of a photo of that side; a method of fixed size makes its own of any."""
        return self.resolution

    @property
    def largest_side(self) -> int:
        """Side of the largest photo that it takes."""
        return self.resolution - 1

    @property
    def networks(self) -> Mapping[str, Any]:
        """What it answers with, by role ("prior", "weights"), for provenance."""
        return {}

    @property
    def trained_for(self) -> tuple[str, ...]:
        """Names of the degradations whose photos its networks learned to answer; empty where that plays no part, or nobody knows."""
        found = filter(None, map(declared, self.networks.values()))
        return tuple(dict.fromkeys(name for declaration in found for name in declaration.degradations))

    def describe(self, settings: Settings | None = None) -> dict[str, Any]:
        """Networks and settings, JSON-serialisable, for run.yaml."""
        about: dict[str, Any] = {"name": self.name}
        for role, network in self.networks.items():
            about |= {role: network.name, f"{role}_sha256": fingerprint(network)}
        values = asdict(settings or self.settings)
        return about | {key: list(x) if isinstance(x, tuple) else x for key, x in values.items()}

    def check(self, settings: Settings, seeds: Sequence[int] = (), guides: Collection[str] = ()) -> None:
        """Refuse settings that cannot work with these networks, before any photo is looked at.

        Args:
            settings: of the method.
            seeds: that will be asked for.
            guides: names of the further inputs that there will be.

        Raises:
            MethodError, InputError: with the mend.
        """

    def configure(
        self, controls: Mapping[str, Any], seeds: Sequence[int] = (), guides: Collection[str] = ()
    ) -> Settings:
        """The preset's settings with these controls, checked (`check`).

        Raises:
            MethodError, InputError: with the mend.
        """
        settings = self.settings.with_(controls)
        self.check(settings, seeds, guides)
        return settings

    def pose(
        self,
        lr: Tensor,
        degradation: Degradation | LearnedDegradation | Source | str | None = None,
        border: str = "renormalise",
        **guides: Any,
    ) -> Problem:
        """A photo as a problem for this method, checked.

        Args:
            lr: (3, h, w) RGB in [0, 1] on the 8-bit grid.
            degradation: what made it; an object, a name or a path, or None for the method's own default.
            border: of a linear one that is made here by name.
            **guides: further inputs, as `capabilities.inputs` says.

        Raises:
            InputError, OperatorError, MethodError: a photo, a degradation or a guide that does not fit.
            WeightsError: a learned degradation that cannot be loaded.
        """
        lr = check_lr(lr)
        known = {given.name for given in self.capabilities.inputs}
        if unknown := sorted(guides.keys() - known):
            raise MethodError(
                f"{self.name} takes no {', '.join(unknown)}; it takes {', '.join(known) or 'the photo only'}."
            )
        if missing := [
            given.name for given in self.capabilities.inputs if given.required and guides.get(given.name) is None
        ]:
            raise MethodError(f"{self.name} needs {', '.join(missing)} beside the photo.")
        source = find_degradation(self.capabilities.default_degradation if degradation is None else degradation, border)
        self.answers_to(source)
        side = self.resolution_for(lr.shape[-1])
        return Problem(lr, degradation_for(lr, side, source).on(self.device), side, guides)

    def answers_to(self, source: Source) -> None:
        """Refuse degradations of a kind that the method cannot invert.

        Raises:
            OperatorError: with the mend.
        """
        if source.kind not in self.capabilities.degradations:
            kinds = " and ".join(self.capabilities.degradations)
            raise OperatorError(
                f"{source.name} is a {source.kind} degradation; {self.name} answers to {kinds} ones only. Choose "
                f"{self.capabilities.default_degradation}, or another method (--method sr-nam)."
            )

    def sample(
        self,
        problem: Problem,
        seeds: Sequence[int],
        settings: Settings | None = None,
        listener: Listener | None = None,
        at: Mapping[str, Tensor] | None = None,
    ) -> Iterator[Candidates]:
        """Candidates of these seeds, batch by batch, in the order of the seeds.

        Args:
            problem: made by `pose`.
            seeds: one candidate each.
            settings: made by `configure`; None takes the preset's.
            listener: told of every step; where it raises `Stop`, the best so far comes out, and nothing further.
            at: latents to go on from (`Candidates.latents`), one row for each seed.
        """
        raise NotImplementedError

    def sample_each(
        self, asks: Iterable[Ask], settings: Settings | None = None, listener: Listener | None = None
    ) -> Iterator[tuple[Ask, Candidates]]:
        """Candidates of several photos, each as soon as it is there, in any order; `settings` and `listener` as in `sample`.

        Here each photo is sampled by itself. A method that answers several together overrides it; the same photo and seed must
        give the same picture.

        Args:
            asks: photos and their seeds; taken one by one, when there is room for another.

        Yields:
            Which photo, and candidates of it.
        """
        hearing = Hearing(listener)
        for ask in asks:
            for part in self.sample(ask.problem, ask.seeds, settings, hearing, ask.at):
                yield ask, part
            if hearing.stopped:
                return

    @property
    def together(self) -> int:
        """How many candidates run together."""
        return self.batch or MOST.get(self.device.type, 8)

    def upsample(
        self,
        lr: Tensor,
        seeds: Sequence[int],
        degradation: Degradation | LearnedDegradation | Source | str | None = None,
        listener: Listener | None = None,
        at: Mapping[str, Tensor] | None = None,
        guides: Mapping[str, Any] | None = None,
        **controls: Any,
    ) -> Iterator[Candidates]:
        """`pose`, `configure` and `sample` in one call; mistakes show before the first batch."""
        settings = self.configure(controls, seeds, (guides or {}).keys())
        return self.sample(self.pose(lr, degradation, **(guides or {})), seeds, settings, listener, at)

    @property
    def side_sizes(self) -> tuple[int, ...]:
        """Sides of the smaller pictures of a candidate that its prior draws, coarse to fine (`side_outputs`); empty where it draws none."""
        return ()

    def attach(self, branches: Any) -> None:
        """Let learned branches (path, name or module; `generate.side_outputs`) draw the prior's smaller pictures.

        Raises:
            MethodError, WeightsError: a method or a prior that can have none, or not these.
        """
        raise MethodError(f"{self.name} has no prior whose blocks could have branches; leave them out.")

    def side_outputs(self, candidates: Candidates) -> dict[int, Tensor]:
        """The same faces at every one of `side_sizes`, {side: (n, 3, side, side)} in [0, 1]: as the prior draws them, not made exact.

        Raises:
            MethodError: candidates that carry no latents of this method.
        """
        return {}

    def handle_names(self) -> tuple[str, ...]:
        """The handles that the loaded networks have, of `capabilities.handles`."""
        return tuple(handle.name for handle in self.capabilities.handles)

    @property
    def handles(self) -> tuple[Handle, ...]:
        """What can be turned on candidates of the loaded networks."""
        names = self.handle_names()
        return tuple(handle for handle in self.capabilities.handles if handle.name in names)

    def steer(
        self, candidates: Candidates, index: int, changes: Mapping[str, Any], seeds: Sequence[int] = (0,)
    ) -> Candidates:
        """Turn handles of one candidate, and keep everything else of it.

        Args:
            candidates: made by this method, with their latents.
            index: which of them.
            changes: value by name of the handle (`handles`).
            seeds: of what is drawn anew, one candidate each.

        Raises:
            MethodError: a handle or value that does not exist, candidates of another method.
        """
        handles = {handle.name: handle for handle in self.handles}
        if not handles:
            raise MethodError(f"{self.name} has no handles here; ask for more seeds instead.")
        for name, value in changes.items():
            handle = handles.get(name)
            if handle is None:
                raise MethodError(f"{self.name} has no handle {name!r}; there are {', '.join(handles)}.")
            if handle.kind in ("reseed", "slider") and not (
                isinstance(value, int | float) and handle.low <= value <= handle.high
            ):
                raise MethodError(f"{name} ({value!r:.40}) must lie in [{handle.low:g}, {handle.high:g}].")
        if candidates.method != self.name or not candidates.latents:
            raise MethodError(f"these candidates carry no latents of {self.name} to continue from.")
        return self._steer(candidates[index], changes, seeds)

    def _steer(self, candidate: Candidates, changes: Mapping[str, Any], seeds: Sequence[int]) -> Candidates:
        raise NotImplementedError


def network_or_load(given: Any, loader: Any) -> Any:
    """A network as it was given, or loaded by name, path or hub id (None: the default)."""
    return loader(given) if given is None or isinstance(given, str | Path) else given
