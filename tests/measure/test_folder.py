"""Folders of candidates: three layouts, what belongs to what, and what to say when something does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from preimage.collection import Collection
from preimage.degrade.linear import make_operator
from preimage.errors import InputError
from preimage.files import save_png
from preimage.measure.folder import find_cases, open_case


def picture(seed: int, side: int = 16) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, side, side), generator=rng).float() / 255


def put(path: Path, seed: int, side: int = 16, about: dict[str, str] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(path, picture(seed, side), about or {})


@pytest.fixture
def truths(tmp_path) -> Collection:
    for i, name in enumerate(("anna", "anna_b", "carl")):
        put(tmp_path / "truth" / f"{name}.png", 100 + i, side=32)
    (tmp_path / "truth" / "index.csv").write_text("file,source,group\nanna.png,aaf,female;age30\n")
    return Collection(tmp_path / "truth")


def test_the_layout_of_upsample(tmp_path, truths):
    operator = make_operator("area", hr_size=16, lr_size=4)
    for seed in (0, 3):
        note = {"degradation": json.dumps(operator.spec())}
        put(tmp_path / "out" / "anna" / f"seed{seed:04d}.png", seed, about=note)
    put(tmp_path / "out" / "anna" / "seed0000_noise0001.png", 9)
    put(tmp_path / "out" / "anna" / "grid.png", 8, side=50)
    put(tmp_path / "out" / "anna" / "input.png", 7, side=4)
    (tmp_path / "out" / "run.yaml").write_text("{}")
    cases, problems = find_cases(tmp_path / "out", truths)
    assert not problems
    (case,) = cases
    assert [f.name for f in case.files] == ["seed0000.png", "seed0003.png"]
    assert case.reference == "anna.png"
    assert case.groups == {"gender": "female", "age": "20-39", "source": "aaf"}
    opened = open_case(case, truths)
    assert torch.equal(opened.images, torch.stack([picture(0), picture(3)]))
    assert torch.equal(opened.lr, picture(7, 4))
    assert opened.operator.spec() == operator.spec()
    with Image.open(tmp_path / "truth" / "anna.png") as truth:
        small = truth.resize((16, 16), Image.Resampling.LANCZOS)
    expected = torch.tensor(list(small.tobytes())).reshape(16, 16, 3).permute(2, 0, 1) / 255
    assert torch.allclose(opened.reference, expected.float())


def test_folders_and_flat_files_of_another_tool(tmp_path, truths):
    put(tmp_path / "out" / "carl" / "first.png", 0)
    put(tmp_path / "out" / "carl" / "second.png", 1)
    for name in ("anna_sample00000", "anna_sample00001", "anna_b", "nobody"):
        put(tmp_path / "out" / f"{name}.png", 2)
    cases, problems = find_cases(tmp_path / "out", truths)
    assert {c.name: [f.name for f in c.files] for c in cases} == {
        "anna": ["anna_sample00000.png", "anna_sample00001.png"],
        "anna_b": ["anna_b.png"],
        "carl": ["first.png", "second.png"],
    }
    assert len(problems) == 1
    assert "nobody: no reference of that name" in problems[0]
    assert open_case(cases[0], truths).lr is None


def test_the_input_comes_from_elsewhere(tmp_path, truths):
    put(tmp_path / "out" / "anna.png", 0, side=32)
    put(tmp_path / "small" / "anna.png", 5, side=8)
    (case,), _ = find_cases(tmp_path / "out", truths, Collection(tmp_path / "small"))
    assert torch.equal(open_case(case, truths).lr, picture(5, 8))
    (case,), _ = find_cases(tmp_path / "out", truths)
    made = open_case(case, truths, scale=4)
    with Image.open(tmp_path / "truth" / "anna.png") as truth:
        small = truth.resize((8, 8), Image.Resampling.BICUBIC)
    assert (made.lr * 255).round().byte().permute(1, 2, 0).numpy().tobytes() == small.tobytes()


def test_without_references_every_file_is_an_input(tmp_path):
    for name in ("a_1", "a_2"):
        put(tmp_path / f"{name}.png", 0)
    cases, problems = find_cases(tmp_path)
    assert [c.name for c in cases] == ["a_1", "a_2"]
    assert not problems
    assert open_case(cases[0]).reference is None


def test_what_does_not_fit_is_named(tmp_path, truths):
    with pytest.raises(InputError, match="no such folder"):
        find_cases(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no candidates here"):
        find_cases(tmp_path / "empty")
    put(tmp_path / "large" / "anna.png", 0, side=64)
    (case,), _ = find_cases(tmp_path / "large", truths)
    with pytest.raises(InputError, match=r"anna\.png is 32x32, the candidates are 64x64"):
        open_case(case, truths)
    put(tmp_path / "mixed" / "anna_1.png", 0)
    put(tmp_path / "mixed" / "anna_2.png", 0, side=8)
    (case,), _ = find_cases(tmp_path / "mixed", truths)
    with pytest.raises(InputError, match="candidates of anna differ in size"):
        open_case(case, truths)
    put(tmp_path / "note" / "anna" / "seed0000.png", 0, about={"degradation": "{broken"})
    put(tmp_path / "note" / "anna" / "input.png", 0, side=4)
    (case,), _ = find_cases(tmp_path / "note", truths)
    with pytest.raises(InputError, match=r"seed0000\.png: its note on the degradation is damaged"):
        open_case(case, truths)


def test_equal_stems_in_different_folders(tmp_path):
    for folder in ("lfw", "aaf"):
        put(tmp_path / "truth" / folder / "1.png", 0)
    put(tmp_path / "out" / "lfw_1.png", 0)
    (case,), _ = find_cases(tmp_path / "out", Collection(tmp_path / "truth"))
    assert case.reference == "lfw/1.png"
