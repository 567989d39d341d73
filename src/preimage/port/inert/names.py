"""Names for what a pickle holds: tensors and plain values by dotted name."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from preimage.errors import WeightsError
from preimage.port.inert.calls import checked_key
from preimage.port.inert.values import Array, Limits, Name, Record, Storage, TensorView

MOST_NODES = 300_000
MOST_DEPTH = 64
MOST_TENSORS = 20_000
MOST_NAME = 1000  # characters of a name or of a text worth keeping


class Finder:
    """Walks what a file holds and collects tensors and plain values by dotted name."""

    def __init__(self, limits: Limits):
        self.limits, self.nodes = limits, 0
        self.tensors: dict[str, Tensor] = {}
        self.about: dict[str, str | int | float | bool] = {}

    def walk(self, value: Any, name: str, depth: int) -> None:
        self.nodes += 1
        if depth > MOST_DEPTH or self.nodes > MOST_NODES or len(name) > MOST_NAME:
            raise WeightsError("nests deeper or holds more than any checkpoint; damaged, or made to exhaust memory.")
        if isinstance(value, TensorView | Array | Storage):
            if isinstance(value, Storage):
                value = TensorView(value, 0, (value.count,), (1,), value.dtype)
            if name in self.tensors:
                raise WeightsError(f"holds two tensors of the name {name[:100]!r}.")
            if len(self.tensors) == MOST_TENSORS:
                raise WeightsError(f"holds more than {MOST_TENSORS:,} tensors; damaged, or made to exhaust memory.")
            self.tensors[name] = value.tensor(self.limits)
        elif isinstance(value, dict):
            for part, member in _members(value):
                self.walk(member, _join(name, part), depth + 1)
        elif isinstance(value, list | tuple):
            networks = len(value) == 3 and all(_is_network(member) for member in value)
            for part, member in zip(("G", "D", "Gs"), value, strict=True) if networks else enumerate(value):
                self.walk(member, _join(name, part), depth + 1)
        elif isinstance(value, Name):
            self.about[name] = value.dotted
        elif _is_plain(value):
            self.about[name] = value


def _join(name: str, part: Any) -> str:
    part = part.dotted if isinstance(part, Name) else str(part)
    return f"{name}.{part}" if name and part else name or part


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= MOST_NAME
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 63)


def _is_network(value: Any) -> bool:
    """Whether it is a network of NVIDIA's TensorFlow programs."""
    return isinstance(value, Record) and "variables" in value


def _members(value: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """What belongs to a dictionary or object, by the names that it should have; an empty one adds nothing to its owner's."""
    if _is_network(value):
        variables = [(str(checked_key(key)).replace("/", "."), v) for key, v in value["variables"]]
        parts = list((value.get("components") or {}).items())
        return [*variables, *parts, ("static_kwargs", value.get("static_kwargs")), ("version", value.get("version"))]
    members: list[tuple[Any, Any]] = []
    module = isinstance(value.get("_modules"), dict)
    for key, member in value.items():
        if module and key in ("_parameters", "_buffers", "_modules"):
            members.append(("", member))
        elif not module:
            members.append((key, member))
        elif key in ("_init_args", "_init_kwargs") or not str(key).startswith("_"):
            members.append((str(key).removeprefix("_"), member))
    return members
