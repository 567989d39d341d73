"""Plain values become settings: by type, strictly, with one message that begins with the key."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from preimage.train.values import built, missing, names, shown, typed


@dataclass(frozen=True)
class Inner:
    rates: tuple[float, float] = (0.0, 1.0)
    widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.rates[0] > self.rates[1]:
            raise ValueError("rates must rise")


@dataclass(frozen=True)
class Outer:
    out: str
    data: list[str]
    steps: int = 1
    limit: float | None = None
    fast: bool = False
    inner: Inner = field(default_factory=Inner)


def test_keys_with_dots_and_those_that_must_be_given() -> None:
    assert names(Outer) == ["out", "data", "steps", "limit", "fast", "inner", "inner.rates", "inner.widths"]
    assert missing(Outer, {"out": "x"}) == ["data"]
    assert missing(Outer, {"out": "x", "data": []}) == []


def test_values_take_the_types_of_their_settings() -> None:
    values = typed(
        Outer, {"out": "x", "data": ("a",), "limit": "1e-3", "inner": {"rates": [0, 1], "widths": [1, 2]}}, {}
    )
    assert values == {"out": "x", "data": ["a"], "limit": 1e-3, "inner": {"rates": (0.0, 1.0), "widths": (1, 2)}}
    assert built(Outer, values) == Outer("x", ["a"], limit=1e-3, inner=Inner((0.0, 1.0), (1, 2)))
    assert typed(Outer, {"limit": None}, {}) == {"limit": None}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stepz": 1}, r"^stepz: no such setting; did you mean steps\?"),
        ({"inner": {"x": 1}}, r"^inner\.x: no such setting"),
        ({"images": 1}, "^images: count in steps"),
        ({"inner": 3}, "^inner: 3 is not a mapping of settings"),
        ({"steps": True}, "^steps: True is not an integer"),
        ({"steps": 2**53}, "is not an integer"),
        ({"limit": "nan"}, "^limit: 'nan' is not a finite number"),
        ({"fast": 1}, "^fast: 1 is not true or false"),
        ({"out": 1}, "^out: 1 is not a text; put it in quotes"),
        ({"data": "a"}, "^data: 'a' is not a list; put it in brackets"),
        ({"inner": {"rates": [1]}}, r"^inner\.rates: \[1\] must have 2 entries"),
        ({"inner": {"widths": [1, "a"]}}, r"^inner\.widths\[1\]: 'a' is not an integer"),
    ],
)
def test_what_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        typed(Outer, values, {"images": "count in steps"})


def test_settings_that_refuse_their_values_are_named() -> None:
    with pytest.raises(ValueError, match=r"^inner: rates must rise"):
        built(Outer, {"out": "x", "data": [], "inner": {"rates": (2.0, 1.0)}})


def test_shown_values_stay_short() -> None:
    assert shown((1, 2)) == "[1, 2]"
    assert len(shown("a" * 100)) == 60
    assert shown(10**5000) == "a number of thousands of digits"
