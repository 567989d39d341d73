"""Scores of faces: words of an index as numbers, a linear score that finds what was painted, a smile by its geometry."""

from __future__ import annotations

import csv

import pytest
import torch

from preimage.collection import Collection
from preimage.errors import InputError
from preimage.files import save_png
from preimage.train.attributes import Attribute, learn_scorers, parse_attributes, smile

WORDS = [["female", "age27"], ["male", "age05"], ["female", "asian"], []]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("age", [27.0, 5.0, None, None]),
        ("gender=male:female", [-1.0, 1.0, -1.0, None]),
        ("asian", [-1.0, -1.0, 1.0, None]),
        ("origin=asian", [-1.0, -1.0, 1.0, None]),
        ("of=asian:male", [None, -1.0, 1.0, None]),
    ],
)
def test_words_become_numbers(text, values):
    (found,) = parse_attributes([text], WORDS)
    assert found.name == text.partition("=")[0]
    assert [found.value(words) for words in WORDS] == values


def test_words_that_no_picture_has_are_refused():
    with pytest.raises(InputError, match=r"no picture of the data is 'smiling'; their `group` column has .*asian"):
        parse_attributes(["smiling"], WORDS)
    for text in ("a b", "=x", "age="):
        with pytest.raises(InputError, match="must read"):
            Attribute.parse(text, False)


@pytest.fixture
def painted(tmp_path):
    """Pictures whose red says their age, and whose green whether they are "bright"; blue is chance."""
    generator = torch.Generator().manual_seed(0)
    lines = []
    for i in range(80):
        age, bright = int(torch.randint(0, 100, (1,), generator=generator)), i % 2
        colour = torch.tensor([age / 100, 0.2 + 0.6 * bright, float(torch.rand(1, generator=generator))])
        save_png(tmp_path / f"{i:02d}.png", colour[:, None, None].expand(3, 8, 8))
        lines.append([f"{i:02d}.png", f"age{age:02d};{'bright' if bright else 'dark'}"])
    with (tmp_path / "index.csv").open("w") as out:
        csv.writer(out).writerows([["file", "group"], *lines])
    return tmp_path


def test_what_was_painted_is_scored(painted):
    def look(x):
        return x.mean((2, 3))

    with Collection(painted) as data:
        found = learn_scorers([data], ["age", "shine=bright:dark"], look, 8, count=60)
    assert {name: s.count for name, s in found.items()} == {"age": 60, "shine": 60}
    assert min(s.explained for s in found.values()) > 0.98
    colours = torch.tensor([[0.2, 0.2, 0.1], [0.7, 0.2, 0.9], [0.2, 0.8, 0.4]])
    age, shine = found["age"](colours), found["shine"](colours)
    assert float(age[1] - age[0]) == pytest.approx(50, abs=2)
    assert float(shine[2] - shine[0]) == pytest.approx(2, abs=0.1)
    assert abs(float(age[2] - age[0])) < 3


def test_a_smile_is_wide_with_its_corners_up_however_the_head_is_turned():
    def face(width, lift):
        points = torch.zeros(68, 2)
        points[36:42] = torch.tensor([-0.5, -1.0])
        points[42:48] = torch.tensor([0.5, -1.0])
        points[48], points[54] = torch.tensor([-width / 2, -lift]), torch.tensor([width / 2, -lift])
        return points

    faces = torch.stack([face(0.8, 0.0), face(1.1, 0.0), face(0.8, 0.1)])
    wanted = torch.tensor([[0.8, 0.0], [1.1, 0.0], [0.8, 0.1]])
    torch.testing.assert_close(smile(faces), wanted)
    turn = torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    torch.testing.assert_close(smile(3 * faces @ turn.t() + 7), wanted)
