"""Pictures that a user names: what is found, in which order, and what the results of each are called."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from preimage.errors import InputError
from preimage.files import plain_name
from preimage.inputs import find_images, unique_stems


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("p/b.png", "p/a.JPG", "p/.hidden.png", "p/notes.txt", "p/deep/c.png", "q/a.png", "face[1].png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_find_images(photos):
    cases = {
        ("p",): ["p/a.JPG", "p/b.png"],
        ("q", "p/b.png", "p"): ["q/a.png", "p/b.png", "p/a.JPG"],
        ("p/*",): ["p/a.JPG", "p/b.png"],
        ("**/*.png",): ["face[1].png", "p/b.png", "p/deep/c.png", "q/a.png"],
        ("face[1].png",): ["face[1].png"],
        ("p/notes.txt",): ["p/notes.txt"],
        (str(photos / "p/b.png"), "p/b.png"): [str(photos / "p/b.png")],
    }
    for inputs, expected in cases.items():
        assert find_images(inputs) == ([Path(name) for name in expected], []), inputs


def test_find_images_counts_a_link_once(photos):
    (photos / "link.png").symlink_to(photos / "q/a.png")
    assert find_images(["q/a.png", "link.png"])[0] == [Path("q/a.png")]


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ("gone.png", "^gone.png: no such file or folder; check the name"),
        ("*.webp", r"^\*.webp: the pattern matches nothing"),
        ("p/*.txt", "the pattern matches 1 names but no picture"),
        ("empty", "^empty: the folder holds no pictures .*png"),
        ("", "empty input name"),
        ("a\0b", "no such file|cannot be reached"),
    ],
)
def test_find_images_reports_and_goes_on(photos, given_, message):
    paths, problems = find_images([given_, "p/b.png"])
    assert paths == [Path("p/b.png")]
    assert len(problems) == 1
    with pytest.raises(InputError, match=message):
        raise problems[0]


def test_stems_that_lead_elsewhere_get_a_safe_name():
    paths = [Path("in", name) for name in ("...png", "..png", ".png", "run.yaml.png", "face.png", "_.png")]
    stems = unique_stems(paths)
    assert len({stem.casefold() for stem in stems.values()}) == len(paths)
    assert stems[Path("in/face.png")] == "face"
    assert stems[Path("in/run.yaml.png")] == "_run.yaml"
    assert all(plain_name(stem) == stem for stem in stems.values())


def test_unique_stems():
    def stems(*names: str) -> list[str]:
        paths = [Path("/d") / name for name in names]
        result = unique_stems(paths)
        assert unique_stems(reversed(paths)) == result
        return [result[path] for path in paths]

    assert stems("a.png", "b.png") == ["a", "b"]
    assert stems("a.png", "a.png") == ["a", "a"]
    assert stems("a.png", "a.jpg", "b.png") == ["a-png", "a-jpg", "b"]
    assert stems("x/a.png", "y/a.png") == ["x_a", "y_a"]
    assert stems("x/a.png", "x/a.jpg", "y/a.png") == ["x_a-png", "x_a-jpg", "y_a-png"]
    assert stems("A.png", "x/a.png") == ["d_A", "x_a"]
    assert stems("a.png", "a.jpg", "a-jpg.gif")[2] == "a-jpg"
    assert len(set(stems("x/y/a.png", "z/y/a.png"))) == 2


@given(st.sets(st.text("aA-_", min_size=1, max_size=3).map(lambda s: s + ".png"), max_size=5), st.integers(1, 4))
def test_unique_stems_are_unique_on_any_file_system(names, folders):
    paths = [Path(f"/r{i}/{'ab'[i % 2]}/{name}") for name in names for i in range(folders)]
    result = unique_stems(paths)
    assert len({stem.casefold() for stem in result.values()}) == len(paths) == len(result)
