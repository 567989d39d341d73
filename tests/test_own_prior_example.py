"""The example of a user's own prior: it runs as printed, PULSE searches it, and pictures beside it are found undisturbed."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from PIL import Image

from preimage.cli import main
from preimage.files import save_png
from preimage.generate.own import MEMBERS
from preimage.image import read_image
from preimage.inputs import find_images
from preimage.weights import load_prior

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "own_prior.py"


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A folder with the example in it, as the current one."""
    (tmp_path / "own_prior.py").write_text(EXAMPLE.read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # undone afterwards, unlike what `load_prior` does by itself
    return tmp_path


def test_it_runs_as_a_script(capsys):
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "exact: [True, True, True, True]" in capsys.readouterr().out


def test_pulse_searches_it_from_the_command_line(beside, capsys):
    prior = load_prior("own_prior:TinyDecoder")
    torch.manual_seed(3)
    assert torch.equal(prior.sample([1, 0])[1], load_prior("own_prior:TinyDecoder").sample([1, 0])[1])
    face = Image.fromarray((prior.sample([7])[0] * 255).byte().permute(1, 2, 0).numpy()).resize((8, 8))
    face.save(beside / "face.png")
    command = ["upsample", "face.png", "-o", "out", "--prior", "own_prior:TinyDecoder", "-n", "2", "--device", "cpu"]
    assert main([*command, "--method", "pulse", "--method.steps", "10"]) == 0
    assert "2 of them exact" in capsys.readouterr().out
    for seed in (0, 1):  # the oracle: Pillow and nothing of ours
        with Image.open(beside / "out" / "face" / f"seed{seed:04d}.png") as large:
            assert large.size == (32, 32)
            assert large.resize((8, 8), Image.Resampling.BICUBIC).tobytes() == face.tobytes()


def test_it_samples_from_the_command_line(beside):
    assert main(["sample", "--prior", "own_prior:TinyDecoder", "--seeds", "5", "-o", "s", "--device", "cpu"]) == 0
    expected = (load_prior("own_prior:TinyDecoder").sample([5])[0] * 255).round() / 255
    assert (read_image(beside / "s" / "seed0005.png").pixels - expected).abs().max() < 1.5 / 255


def test_pictures_beside_a_program_are_found_alone(beside):
    save_png(beside / "face.png", torch.zeros(3, 4, 4))
    found, problems = find_images([beside])
    assert [p.name for p in found] == ["face.png"]
    assert not problems
    assert {p.suffix for p in find_images([ROOT / "examples"])[0]} == {".png"}


def test_the_page_about_priors_names_every_member_and_the_example():
    page = (ROOT / "docs" / "priors.md").read_text()
    for member in MEMBERS:
        assert f"`{member}`" in page, member
    assert "examples/own_prior.py" in page
