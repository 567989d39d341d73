"""The tutorials run as they are printed, each in a folder of its own."""

from __future__ import annotations

import pytest
from printed import ROOT, blocks, commands, run_command, run_snippet

PAGES = ("first-steps", "compare-methods", "own-degradation", "own-prior", "steer-a-face", "train-on-two-cores")


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder with the examples, and nobody's caches."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for name in ("WEIGHTS", "CACHE"):
        monkeypatch.setenv(f"PREIMAGE_{name}", str(tmp_path / name.lower()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_all_of_them_are_tested():
    assert {page.stem for page in (ROOT / "docs" / "tutorials").glob("*.md")} == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_they_are_short(page):
    assert len((ROOT / "docs" / "tutorials" / f"{page}.md").read_text().splitlines()) <= 60


@pytest.mark.parametrize("page", PAGES)
def test_a_tutorial_runs(page, workplace):
    printed = blocks(ROOT / "docs" / "tutorials" / f"{page}.md")
    assert {kind for kind, _ in printed} == {"bash", "python"}
    names: dict[str, object] = {}
    for kind, block in printed:
        if kind == "python":
            run_snippet(block, page, names)
        else:
            for command in commands(block):
                run_command(command, page)
    assert any((workplace / "out").rglob("seed*.png"))
