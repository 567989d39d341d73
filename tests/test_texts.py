"""Untrusted JSON and YAML: plain values come through, everything else is one line that says why."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from preimage.texts import MOST_DEPTH, TextError, finite, one_line, parse_json, parse_yaml

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(PLAIN)
def test_json_is_read_as_python_reads_it(value):
    assert parse_json(json.dumps(value)) == value


# PyYAML itself does not bring back some controls and line breaks that it writes
WORDS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="\ufeff"))


@given(st.recursive(st.none() | st.booleans() | st.integers() | WORDS, lambda s: st.dictionaries(WORDS, s, max_size=3)))
def test_yaml_that_was_dumped_comes_back(value):
    assert parse_yaml(yaml.safe_dump(value, allow_unicode=True)) == value


@given(st.text() | st.binary().map(lambda b: b.decode("latin-1")))
def test_any_text_gives_values_or_one_line(text):
    for parse in (parse_json, parse_yaml):
        try:
            parse(text)
            told = "values"
        except TextError as error:
            told = str(error)
        assert told
        assert "\n" not in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Expecting property"),
        ("[NaN]", "NaN is no number"),
        ("[1e400]", "1e400 is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("[" * 100_000 + "]" * 100_000, "nested deeper"),
        ("[" * (MOST_DEPTH + 2) + "]" * (MOST_DEPTH + 2), "nested deeper"),
        (json.dumps([0] * 100_001), "more than 100000 values"),
    ],
)
def test_bad_json(text, words):
    with pytest.raises(TextError, match=words):
        parse_json(text)


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{[", "expected"),
        ("a: !!int foo", "invalid literal"),
        ("a: !!timestamp 2020-99-99", "month must be"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("1: 2", "line 1: a key that is no text"),
        ("? [1]\n: 2", "a key that is no text"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands twice"),
        ("a: {b: 1, b: 1}", "the key 'b' stands twice"),
        ("a: !!binary aGk=", "holds a bytes"),
        ("a: !!set {b, c}", "holds a set"),
        ("[" * 5_000 + "]" * 5_000, "nested deeper"),
        ("&a [*a]", "nested deeper"),
        (LAUGHS, "more than 100000 values"),
    ],
)
def test_bad_yaml(text, words):
    with pytest.raises(TextError, match=words) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)


def test_dates_are_texts_and_anchors_work():
    assert parse_yaml("a: 2020-99-99\nb: 2020-01-01") == {"a": "2020-99-99", "b": "2020-01-01"}
    assert parse_yaml("x: &x {a: 1}\ny: {<<: *x, b: 2}") == {"x": {"a": 1}, "y": {"a": 1, "b": 2}}


def test_one_line():
    assert one_line(KeyError(4294967295)) == "KeyError: 4294967295"
    assert one_line(ValueError("7")) == "ValueError: 7"
    assert one_line(ValueError()) == "ValueError"
    assert one_line(RuntimeError("a\n\tb  c")) == "a b c"
    assert len(one_line(RuntimeError("word " * 1000))) == 200


def test_numbers_for_json():
    assert finite(float("inf")) is None
    assert finite(float("nan"), 3) is None
    assert finite(1.23456, 2) == 1.23
