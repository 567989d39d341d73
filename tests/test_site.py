"""The site: its navigation names every page, links between pages resolve here as well as there, printed commands exist, and it builds."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

from preimage.cli import COMMANDS, _written_out

ROOT = Path(__file__).parents[1]
HOOK = runpy.run_path(str(ROOT / "tools" / "docs_site.py"))
ONE_EACH = runpy.run_path(str(ROOT / "tools" / "docs_names.py"))["one_each"]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")], key=lambda page: page.as_posix()
)


def named(entries: object) -> list[str]:
    """All pages of a navigation, however deep."""
    if isinstance(entries, str):
        return [entries]
    parts = entries.values() if isinstance(entries, dict) else entries
    return [page for part in parts for page in named(part)]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and MkDocs both make them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in plain}


def test_the_navigation_names_every_page_once():
    entries = named(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    here = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    made = {*HOOK["FROM_ROOT"], *(f"reference/{name}.md" for name in HOOK["REFERENCE"])}
    assert set(entries) == here | made
    assert len(entries) == len(set(entries))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_resolve(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http:", "https:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target} leads nowhere"
        if anchor:
            assert anchor in anchors(there), f"{page.name}: {target}: no such heading; there are {anchors(there)}"


@pytest.mark.parametrize("page", [*(ROOT / "docs").rglob("*.md")], ids=lambda page: page.stem)
def test_pages_stay_in_the_site(page):
    """What a page of docs/ links to is a page of the site or a file of docs/, else the link would be dead there."""
    for target in re.findall(r"\]\((\.\./[^)\s#]+)", page.read_text()):
        there = (page.parent / target).resolve()
        assert there.is_relative_to(ROOT / "docs") or there.name in HOOK["FROM_ROOT"].values(), target


def test_pages_from_beside_docs_keep_their_links():
    moved = HOOK["moved"]
    assert moved("[a](docs/a.md#b) ![c](docs/c.png)") == "[a](a.md#b) ![c](c.png)"
    assert moved("[a](CONTRIBUTING.md#habits) [b](README.md)") == "[a](contributing.md#habits) [b](index.md)"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_printed_commands_name_options_and_scripts_that_exist(page):
    text = page.read_text().replace("\\\n", " ")
    printed = re.findall(r"^ *preimage (\S.*)$", text, re.M) + re.findall(r"`preimage ([^`]+)`", text)
    for line in printed:
        command, *words = re.split(r"\s+#|\s>\s|&&", line)[0].split()
        assert command in COMMANDS, f"{page.name}: preimage {line}"
        if command == "train" and words and words[0].endswith(".yaml"):
            continue  # a recipe of the reader's own
        parser = ArgumentParser()
        COMMANDS[command][1](parser, words)
        known = {name for action in parser._actions for name in action.option_strings}
        written = [_written_out(word, command) if command == "upsample" else word for word in words]
        given = {found[0] for word in written if (found := re.match(r"--?[a-zA-Z][\w.-]*", word))}
        assert given <= known, f"{page.name}: preimage {line}: no option {', '.join(given - known)}"
    for script in re.findall(r"\b(?:benchmarks|tools)/\w+\.py", text):
        assert (ROOT / script).exists(), f"{page.name}: {script}"


def test_entries_of_several_names_become_one_each():
    text = "Args:\n    low, high: its range,\n        in units.\n    name: of it; so, well: fine.\n"
    assert ONE_EACH(text) == (
        "Args:\n    low: its range,\n        in units.\n    high: its range,\n        in units.\n"
        "    name: of it; so, well: fine.\n"
    )


def test_it_builds_and_asks_no_other_machine(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    home = (tmp_path / "site" / "index.html").read_text()
    assert "One blurry face goes in" in home
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"?(https?://[^\" >]+)", page.read_text())
        assert not loaded, f"{page.name} loads {loaded}"
    reference = (tmp_path / "site" / "reference" / "candidates.html").read_text()
    assert "What the photo pins down" in reference
