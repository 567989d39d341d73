"""An explorer's candidates as files: one, all of them as a folder of results, and what the files prove."""

from __future__ import annotations

import io
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch

from preimage.candidates import Candidates, package_version
from preimage.degrade.linear import LinearOperator
from preimage.degrade.proof import verify
from preimage.errors import InputError
from preimage.files import save_png, write_bytes_atomic
from preimage.history import Card, State
from preimage.invert.method import Method
from preimage.results import ResultFolder


@dataclass(frozen=True)
class Proof:
    """What the file of a candidate proves.

    Attributes:
        exact: it shrinks to the photo, every byte.
        values: how many bytes that are.
        side: pixels of the photo, a side.
        how: the downscaling.
        error: RMS miss in grey levels.
        because: why it is none, "learned degradation" or "tolerance"; empty for a linear one.
    """

    exact: bool
    values: int
    side: int
    how: str
    error: float
    because: str = ""

    @property
    def text(self) -> str:
        """For people, one sentence."""
        size = f"{self.side}×{self.side}"
        if self.exact:
            return f"Shrinks to your input: every byte. All {self.values} values of {size} pixels agree ({self.how})."
        if self.because == "tolerance":
            return f"Answers a noisy photo within the tolerance you chose; shrunk, it misses your input by {self.error:.2f} grey levels."
        if self.because:
            return (
                f"Nothing is proved: it answers a learned degradation, which it misses by {self.error:.2f} grey levels."
            )
        return f"Not exact: shrunk to {size} pixels it misses your input by {self.error:.2f} grey levels. Draw another one."


def prove(candidate: Candidates) -> Proof:
    """Save a candidate and its photo, read both again, shrink and compare; see `preimage.degrade.proof.verify`."""
    operator, lr = candidate.degradation, candidate.lr
    exact, error = False, float(candidate.error[0])
    if isinstance(operator, LinearOperator):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            files = Path(folder) / "candidate.png", Path(folder) / "input.png"
            save_png(files[0], candidate.images[0])
            save_png(files[1], lr)
            exact, error = verify(*files, operator)
    return Proof(
        exact and not candidate.inexact_because, lr.numel(), lr.shape[-1], operator.name, error, candidate.inexact_because
    )  # fmt: skip


def save_card(card: Card, path: str | Path) -> Path:
    """One candidate as a PNG with its provenance.

    Raises:
        OutputError: it cannot be written.
    """
    save_png(path, card.candidate.images[0], card.candidate.provenance(0) | {"story": card.story})
    return Path(path)


def save_cards(state: State, method: Method, folder: str | Path) -> list[Path]:
    """See `Explorer.save`."""
    if not state.cards or state.photo is None or state.problem is None:
        raise InputError("there are no candidates to save; draw some first.")
    stem, lr = state.photo.name, state.problem.lr
    record = {
        "method": method.describe(state.settings),
        "degradation": state.problem.degradation.name,
        "inputs": [stem],
        "seeds": ",".join(str(card.candidate.seeds[0]) for card in state.cards),
        "square": None if state.square is None else vars(state.square),
        "guides": sorted(state.guides),
        "versions": {"preimage": package_version(), "torch": torch.__version__, "python": sys.version.split()[0]},
    }
    with ResultFolder.open(folder, record) as results:
        place = results.claim(stem, lr)
        for card in state.cards:
            results.write(stem, card.candidate, files=[card.file], about={"story": card.story})
        results.grid_of(stem, lr, {card.file: card.story for card in state.cards}, state.sure)
    return [place / card.file for card in state.cards]


def zip_results(state: State, method: Method, path: str | Path) -> Path:
    """All candidates of a moment as one file: a folder of results, zipped, which `preimage verify` proves when it is unpacked.

    Args:
        state, method: as of `save_cards`.
        path: the file to write.

    Raises:
        InputError: there are no candidates.
        OutputError: it cannot be written.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = Path(place) / "results"
        save_cards(state, method, folder)
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:  # PNG is compressed already
            for file in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
                archive.write(file, file.relative_to(place))
    write_bytes_atomic(path, data.getvalue())
    return path


def zip_cards(state: State, path: str | Path) -> Path:
    """The pictures alone, each with its provenance, and the input, as one file; errors as of `zip_results`."""
    if state.problem is None or not state.cards:
        raise InputError("there are no candidates to save; draw some first.")
    data = io.BytesIO()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place, zipfile.ZipFile(data, "w") as archive:
        save_png(Path(place) / "input.png", state.problem.lr)
        archive.write(Path(place) / "input.png", "input.png")
        for card in state.cards:
            archive.write(save_card(card, Path(place) / card.file), card.file)
    write_bytes_atomic(path, data.getvalue())
    return Path(path)
