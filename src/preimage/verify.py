"""What the files of a folder of results prove, and what they cannot prove."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from preimage.degrade.consistency import verify
from preimage.degrade.learned import NOISE, LearnedDegradation, learned_error, learned_spec, unpack_noise
from preimage.degrade.linear import LinearOperator
from preimage.errors import InputError, PreimageError
from preimage.files import read_provenance
from preimage.image import read_image
from preimage.invert.problem import by_name
from preimage.results import read_yaml

L1_TOLERANCE = 0.05
"""Grey levels by which an L1 measured again may differ from the recorded one: other devices round otherwise."""


@dataclass
class Verified:
    """What the files of a folder prove.

    Attributes:
        exact: candidates that shrink to their input byte for byte.
        learned: candidates of a learned degradation whose recorded L1 was found again; that proves nothing about the photo.
        l1: sum over those of their L1, grey levels.
        problems: one message for each candidate that is neither.
    """

    exact: int = 0
    learned: int = 0
    l1: float = 0.0
    problems: list[str] = field(default_factory=list)


def verify_folder(results: str | Path) -> Verified:
    """Check a folder of results from the files alone.

    Each candidate is opened with Pillow, shrunk and compared with its input, byte for byte. A candidate of a learned
    degradation is degraded again with the noise in its file, and the L1 compared with the recorded one.

    Args:
        results: a folder that `upsample_folder` filled.

    Raises:
        InputError: a folder without results.
    """
    found = Verified()
    pairs = [(p, p.parent / "input.png") for p in sorted(Path(results).glob("*/seed*.png"))]
    if not pairs:
        raise InputError(f"{results}: no candidates here. Give the folder that `preimage upsample -o` filled.")
    record = Path(results) / "run.yaml"
    degradation: LearnedDegradation | None = None
    for path, lr in pairs:
        try:
            notes = read_provenance(path)
            spec = json.loads(notes["operator"]) if "operator" in notes else None
            if spec is not None and spec.get("kind") == "learned":
                degradation = degradation or _degradation_of(record)
                found.l1 += learned_again(path, lr, notes, degradation)
                found.learned += 1
                continue
            same, error = verify(path, lr, LinearOperator.from_spec(spec) if spec else None)
        except PreimageError as problem:
            found.problems.append(str(problem))
            continue
        found.exact += same
        if not same:
            found.problems.append(f"{path}: misses its input by {error:.3f} grey levels (RMS)")
    return found


def _degradation_of(record: Path) -> LearnedDegradation:
    """The learned degradation that run.yaml names."""
    name = read_yaml(record).get("operator") if record.is_file() else None
    found = by_name(name) if isinstance(name, str) else None
    if not isinstance(found, LearnedDegradation):
        raise InputError(
            f"{record}: does not name the learned degradation of these candidates; nothing can be checked."
        )
    return found


def learned_again(path: Path, lr: Path, notes: Mapping[str, str], degradation: LearnedDegradation) -> float:
    """The L1 in grey levels that a saved candidate reaches under a learned degradation, measured again.

    Args:
        path, lr: the candidate's file and its input's.
        notes: of the candidate (`read_provenance`).
        degradation: the network.

    Raises:
        InputError: another network than the one recorded, damaged notes, or an L1 that is not the recorded one.
    """
    if json.loads(notes["operator"]) != learned_spec(degradation):
        raise InputError(f"{path}: was made with another network called {degradation.name}; nothing can be checked.")
    noise = unpack_noise(notes[NOISE])[None] if NOISE in notes else None
    if noise is not None and noise.shape[1] != degradation.noise_dim:
        raise InputError(f"{path}: its degradation noise has {noise.shape[1]} numbers, not {degradation.noise_dim}.")
    l1 = float(learned_error(degradation, read_image(path).pixels[None], read_image(lr).pixels, noise)[0])
    recorded = float(notes.get("l1", "nan"))
    if not abs(l1 - recorded) <= L1_TOLERANCE:
        raise InputError(
            f"{path}: its degraded picture misses the input by an L1 of {l1:.3f} grey levels, not {recorded:.3f}"
        )
    return l1
