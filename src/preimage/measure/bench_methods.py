"""Which methods a benchmark runs: what a user names, the networks behind it, and the size at which all are compared."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preimage.degrade.linear import OPERATORS
from preimage.errors import MethodError
from preimage.invert.method import Capabilities
from preimage.invert.problem import find_degradation
from preimage.invert.registry import list_methods, load, method_class
from preimage.weights import default_network, default_prior


@dataclass(frozen=True)
class Spec:
    """A method as it is named for a benchmark.

    Attributes:
        name: of the method.
        own: network that is named for it; empty for none.
        preset: of its settings.
        told: degradation that it is told in the place of the benchmark's; empty for none.
    """

    name: str
    own: str = ""
    preset: str = "default"
    told: str = ""

    @property
    def takes(self) -> Capabilities:
        """What the method can do."""
        return method_class(self.name).capabilities

    def given(self, prior: str | None) -> str | None:
        """The network that is named for it, or the prior that is named for all where it searches any."""
        return self.own or (prior if self.takes.prior and not self.takes.weights else None)

    def network(self, prior: str | None) -> str | None:
        """The network behind its pictures, by name or path; None where only the size of one matters."""
        if self.name == "bicubic":
            return None
        if self.given(prior) or not self.takes.weights:
            return self.given(prior) or default_prior()
        return default_network("encoder" if self.takes.prior else "upsampler", self.name)

    def resolution(self, prior: str | None, device: str) -> int:
        """Side of its pictures."""
        return load(self.name, device=device, **self.networks(self.given(prior))).resolution

    def networks(self, given: str | None) -> dict[str, Any]:
        """A network as the argument that the method takes it by; an encoder finds its prior itself."""
        return {"weights": given} if self.takes.weights else {"prior": given} if self.takes.prior else {}

    def label(self, specs: Sequence[Spec]) -> str:
        """What the report calls it; a file has the name of its folder where several share theirs, for every run exports the same."""
        alike = {other.own for other in specs if other.own and Path(other.own).stem == Path(self.own).stem}
        short = Path(self.own).stem if len(alike) <= 1 else f"{Path(self.own).parent.name}-{Path(self.own).stem}"
        text = self.name + bool(self.own) * f"={short}" + (self.preset != "default") * f":{self.preset}"
        return text + bool(self.told) * f"@{Path(self.told).stem}"


def parse_method(text: str) -> Spec:
    """A method of a benchmark, of `NAME=NETWORK:PRESET@DEGRADATION`.

    A network may hold colons and at signs itself (`hf-hub:owner/repo`, `my_prior:Class`): what follows its last ones counts as
    preset or degradation where it is one.

    Raises:
        MethodError: no such method.
        OperatorError, WeightsError: no such degradation.
    """
    name = re.split("[=:@]", text, maxsplit=1)[0]
    if name not in list_methods():
        raise MethodError(f"method {name!r} is unknown; there are {', '.join(list_methods())}.")
    rest, told, preset = text[len(name) :], "", ""
    before, _, after = rest.rpartition("@")
    if after != rest and (not rest.startswith("=") or after in OPERATORS or Path(after).is_file()):
        rest, told = before, after
    before, _, after = rest.rpartition(":")
    if after != rest and (not rest.startswith("=") or after in method_class(name).presets):
        rest, preset = before, after
    if told:
        find_degradation(told)
    return Spec(name, rest.removeprefix("="), preset or "default", told)


def size_giver(spec: Spec, specs: Sequence[Spec], prior: str | None, side: int, device: str) -> str | None:
    """The network that a method is given: its own, the shared prior, and for bicubic, which only asks for a size, one that is compared."""
    if spec.own or spec.name != "bicubic" or prior is not None:
        return spec.given(prior)
    for other in specs:
        if other.name != "bicubic" and other.resolution(prior, device) == side:
            return other.network(prior)
    return None


def compared_at(wanted: int | None, specs: Sequence[Spec], prior: str | None, device: str) -> int:
    """Side at which all are compared: none of them makes smaller pictures. Bicubic makes what the others make.

    Raises:
        MethodError: a side that one of them does not reach.
    """
    asked = [spec for spec in specs if spec.name != "bicubic" or spec.own] or list(specs)
    made = {f"{spec.name} {spec.own}".strip(): spec.resolution(prior, device) for spec in asked}
    smallest = min(made.values())
    if wanted is None:
        return smallest
    if not 1 <= wanted <= smallest:
        name = min(made, key=lambda method: made[method])
        raise MethodError(f"resolution ({wanted}): {name} makes {made[name]} pixels; compare at that or fewer.")
    return wanted
