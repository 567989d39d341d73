"""The README's commands and snippets run as they are printed."""

from __future__ import annotations

import re
import subprocess
import zipfile

import pytest
import torch
from printed import ROOT, blocks, commands, run_command, run_snippet

from preimage.faces.align import paste
from preimage.files import save_png
from preimage.image import to_pillow
from preimage.weights import load_prior

TEXT = (ROOT / "README.md").read_text()
BLOCKS = blocks(ROOT / "README.md")
# these install things or run the test suite itself (the Makefile's own text is checked below), or answer until they are interrupted
NOT_HERE = ("make ", "git clone", "pip install", "cd ", "preimage explore")


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder with the examples where the README expects them."""
    for name in ("examples", "benchmarks", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:  # "your own aligned faces": imagined ones
        for i, picture in enumerate(load_prior().sample(range(3)).clamp(0, 1)):
            save_png(tmp_path / f"{i}.png", (picture * 255).round() / 255)
            archive.write(tmp_path / f"{i}.png", f"{i}.png")
    place = torch.tensor([[60.0, 40], [108, 40], [108, 88], [60, 88]])  # "your own photo": an imagined face on grey
    photo = paste(torch.full((3, 140, 200), 0.5), picture, place)
    to_pillow(photo).save(tmp_path / "photo.jpg", quality=90)
    monkeypatch.setenv("PREIMAGE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_run_in_the_order_they_are_printed(workplace):
    ran = 0
    for command in (line for kind, block in BLOCKS if kind == "bash" for line in commands(block)):
        if command.startswith(NOT_HERE):
            continue
        run_command(command, "README.md")
        ran += 1
    assert ran >= 5


def test_the_snippets_run(workplace):
    snippets = [block for kind, block in BLOCKS if kind == "python"]
    assert snippets
    names: dict[str, object] = {}
    for snippet in snippets:
        run_snippet(snippet, "README.md", names)


def test_the_two_commands_exist():
    printed = subprocess.run(
        ["make", "-n", "demo", "test"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "make demo" in TEXT
    assert "make test" in TEXT
    assert "preimage upsample examples" in printed
    assert "pytest" in printed


def test_links_and_pictures_exist():
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    missing = [t for t in targets if not t.startswith("http") and not (ROOT / t).exists()]
    assert not missing
