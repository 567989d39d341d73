"""The contract of a method: a photo goes in, batches of candidates come out as they are ready."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor

if TYPE_CHECKING:
    from preimage.candidates import Candidates
    from preimage.degrade.learned import Operator

OnStep = Callable[[int, Tensor], None]
"""Called after each step of a batch with the step and the indices of the candidates still searching."""


@dataclass(frozen=True)
class Capabilities:
    """What a method can do, as data.

    Attributes:
        summary: one sentence.
        paper: where it comes from.
        needs_prior: searches or decodes with a prior.
        needs_mask, needs_reference: further inputs.
        many: different seeds give different pictures.
        operators: the downscalings it answers to: "any linear", "learned" or names.
        default_operator: the downscaling it assumes where none is given.
        presets: named settings.
        steers: what a user can steer.
    """

    summary: str
    paper: str = ""
    needs_prior: bool = False
    needs_mask: bool = False
    needs_reference: bool = False
    many: bool = True
    operators: tuple[str, ...] = ("any linear",)
    default_operator: str = "bicubic"
    presets: tuple[str, ...] = ("default",)
    steers: tuple[str, ...] = ()


class Method(Protocol):
    """A way from a low-resolution picture to candidates.

    `sample` yields batches as they are ready; the same seed gives the same picture for any batch size or order.
    """

    name: str
    capabilities: Capabilities

    @property
    def resolution(self) -> int:
        """Side of the pictures it makes."""
        ...

    def sample(
        self,
        lr: Tensor,
        /,
        seeds: Sequence[int],
        operator: Operator | str | None = None,
        on_step: OnStep | None = None,
        **controls: Any,
    ) -> Iterator[Candidates]:
        """lr (3, h, w) in [0, 1] -> candidates, in the order of the seeds.

        The photo is positional: a control may be called `lr` too, the learning rate.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Resolved settings, JSON-serialisable."""
        ...


@runtime_checkable
class Varies(Protocol):
    """A method that can resample only the fine noise around one candidate."""

    def resample_noise(self, candidates: Candidates, index: int, seeds: Sequence[int]) -> Candidates: ...
