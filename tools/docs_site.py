"""A hook of MkDocs: the pages of the site that are no files under docs/.

README.md and CONTRIBUTING.md become the home page and a page of their own, with their links turned round, so that nothing is written
twice; the reference is one heading and a list of names for each page, which mkdocstrings fills from the docstrings.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

FROM_ROOT = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md"}
"""Pages that are files beside docs/."""

REFERENCE: dict[str, tuple[str, tuple[str, ...]]] = {
    "main": (
        "The main job",
        (
            "preimage.upsampling.upsample",
            "preimage.upsampling.upsample_folder",
            "preimage.invert.registry.load",
            "preimage.invert.registry.list_methods",
            "preimage.weights.load_prior",
            "preimage.weights.list_weights",
            "preimage.verify",
            "preimage.errors",
        ),
    ),
    "session": ("Session", ("preimage.session", "preimage.invert.listener", "preimage.invert.problem.Problem")),
    "candidates": ("Candidates", ("preimage.candidates.Candidates",)),
    "methods": ("Methods", ("preimage.invert.method", "preimage.invert.settings", "preimage.invert.finish.finish")),
    "degradations": (
        "Degradations",
        ("preimage.degrade.degradation", "preimage.degrade.linear", "preimage.degrade.consistency.make_exact"),
    ),
    "priors": ("Priors", ("preimage.generate.prior", "preimage.generate.own")),
    "metrics": (
        "Metrics",
        (
            "preimage.measure.metric",
            "preimage.measure.evaluate",
            "preimage.measure.fidelity",
            "preimage.measure.perceptual",
            "preimage.measure.sets",
            "preimage.measure.niqe",
            "preimage.measure.faces",
            "preimage.measure.solutions",
            "preimage.measure.calibration",
            "preimage.measure.groups",
        ),
    ),
}
"""Pages under reference/: title, and the names of what they describe."""


def moved(text: str) -> str:
    """A page from beside docs/ as one inside it: links into docs/ lose the folder, those to each other get the page's name."""
    text = re.sub(r"(\]\(|src=\")docs/", r"\1", text)
    for page, file in FROM_ROOT.items():
        text = re.sub(rf"\]\({re.escape(file)}(#[^)]*)?\)", rf"]({page}\1)", text)
    return text


def reference_page(title: str, names: tuple[str, ...]) -> str:
    """Markdown that mkdocstrings fills."""
    return "\n\n".join([f"# {title}", *(f"::: {name}" for name in names)]) + "\n"


def on_files(files: Any, config: Any) -> Any:
    """MkDocs asks which files there are: those of docs/, and these."""
    from mkdocs.structure.files import File

    pages = {page: moved((ROOT / file).read_text(encoding="utf-8")) for page, file in FROM_ROOT.items()}
    pages |= {f"reference/{name}.md": reference_page(*about) for name, about in REFERENCE.items()}
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links of docs/ to the files beside it lead to their pages."""
    depth = page.file.src_uri.count("/")
    for name, file in FROM_ROOT.items():
        markdown = markdown.replace(f"]({'../' * (depth + 1)}{file}", f"]({'../' * depth}{name}")
    return markdown
