"""What the files of a folder of results prove, and what they cannot prove."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from preimage.candidates import TOLERANCE
from preimage.degrade.degradation import Degradation
from preimage.degrade.kernels import whole
from preimage.degrade.learned import NOISE, unpack_noise
from preimage.degrade.linear import LinearOperator
from preimage.degrade.proof import largest_miss, verify
from preimage.errors import InputError, OperatorError, PreimageError
from preimage.files import read_jsonl, read_provenance, read_yaml
from preimage.image import decoded_size, read_image
from preimage.invert.problem import find_degradation
from preimage.results import is_listed
from preimage.texts import TextError, one_line, parse_json

L1_TOLERANCE = 0.05
"""Grey levels by which an L1 measured again may differ from the recorded one: other devices round otherwise."""


@dataclass
class Verified:
    """What the files of a folder prove.

    Attributes:
        exact: candidates that shrink to their input byte for byte.
        learned: candidates of a learned degradation whose recorded L1 was found again; that proves nothing about the photo.
        l1: sum over those of their L1, grey levels.
        within: candidates that answer within a tolerance by choice, and do.
        tolerance: the largest of those tolerances, grey levels.
        problems: one message for each candidate that is none of these.
    """

    exact: int = 0
    learned: int = 0
    l1: float = 0.0
    within: int = 0
    tolerance: float = 0.0
    problems: list[str] = field(default_factory=list)


def verify_folder(results: str | Path) -> Verified:
    """Check a folder of results from the files alone.

    Each candidate is opened with Pillow, shrunk and compared with its input, byte for byte. A candidate of a learned
    degradation is degraded again with the noise in its file, and the L1 compared with the recorded one. A candidate with
    a tolerance in its file is shrunk and held to that.

    Args:
        results: a folder that `upsample_folder` filled.

    Raises:
        InputError: a folder without results.
    """
    found, folder = Verified(), Path(results)
    record = folder / "run.yaml"
    listed, found.problems = _listed(folder)
    try:
        pairs = sorted({*folder.glob("*/seed*.png"), *listed})
    except ValueError as unfit:  # a name that no folder can have
        raise InputError(f"{results}: {one_line(unfit)}. Give the folder that `preimage upsample -o` filled.") from None
    if not pairs and not found.problems:
        raise InputError(f"{results}: no candidates here. Give the folder that `preimage upsample -o` filled.")
    learned: Degradation | None = None
    for path in pairs:
        lr = path.parent / "input.png"
        try:
            if path in listed and not path.exists():
                raise InputError(
                    f"{path}: is listed in summary.jsonl but missing; the same `preimage upsample` makes it again"
                )
            notes = read_provenance(path)
            spec = recorded_degradation(path, notes)
            if spec is not None and spec.get("kind") == "learned":
                learned = learned or _learned_of(record)
                found.l1 += learned_again(path, lr, notes, learned)
                found.learned += 1
                continue
            hr_size, lr_size = decoded_size(path), decoded_size(lr)  # what is there, not what a header claims
            if min(hr_size) <= min(lr_size):
                raise InputError(f"{path}: {hr_size[0]}x{hr_size[1]} pixels, no more than its input; no candidate is.")
            operator = linear_operator(path, spec, hr_size, lr_size) if spec else None
            if TOLERANCE in notes:
                tolerance = claimed_tolerance(path, notes, record)
                found.tolerance = max(found.tolerance, tolerance)
                worst = largest_miss(path, lr, operator)
                if worst > tolerance:
                    raise InputError(
                        f"{path}: misses its input by up to {worst:.0f} grey levels, more than {tolerance:g}"
                    )
                found.within += 1
                continue
            same, error = verify(path, lr, operator)
        except PreimageError as problem:
            text = str(problem)
            found.problems.append(text if str(path) in text else f"{path}: {text}")
            continue
        found.exact += same
        if not same:
            found.problems.append(f"{path}: misses its input by {error:.3f} grey levels (RMS)")
    return found


def _listed(folder: Path) -> tuple[set[Path], list[str]]:
    """The candidates that summary.jsonl names, and what is wrong with it."""
    summary, damaged = folder / "summary.jsonl", list[int]()
    found = set()
    for line in read_jsonl(summary, damaged):
        if is_listed(line):
            found.add(folder / line["input"] / line["file"])
        else:
            damaged.append(0)
    count = len(damaged)
    return found, [f"{summary}: {count} damaged line(s); what they listed is not checked"] if count else []


def recorded_degradation(path: Path, notes: Mapping[str, str]) -> dict[str, Any] | None:
    """The description of the degradation in a candidate's notes (`read_provenance`); None for a picture without one.

    Raises:
        InputError: damaged notes.
    """
    if "degradation" not in notes:
        return None
    try:
        spec = parse_json(notes["degradation"])
    except TextError as error:
        raise InputError(
            f"{path}: its note on the degradation is damaged ({error}); make the candidate again."
        ) from None
    if not isinstance(spec, dict):
        raise InputError(
            f"{path}: its note on the degradation is damaged (a {type(spec).__name__}); make the candidate again."
        )
    return spec


def linear_operator(path: Path, spec: Mapping[str, Any], hr: tuple[int, int], lr: tuple[int, int]) -> LinearOperator:
    """The linear downscaling that a candidate's notes describe.

    Args:
        path: of the candidate, for messages.
        spec: see `recorded_degradation`.
        hr, lr: width and height of the candidate and of its input, which the notes must agree with: so nothing is allocated
            because a file claims it.

    Raises:
        InputError: notes that describe no downscaling, or one between other sizes.
    """
    try:
        sizes = [tuple(reversed(whole(spec.get(key), key))) for key in ("hr_size", "lr_size")]
        if sizes != [hr, lr]:
            raise InputError(
                f"{path}: its note on the degradation speaks of other sizes than {hr[0]}x{hr[1]} and {lr[0]}x{lr[1]} pixels, which the "
                "pictures have; make the candidate again."
            )
        return LinearOperator.from_spec(spec)
    except OperatorError as error:
        raise InputError(
            f"{path}: its note on the degradation is damaged ({one_line(error)}); make the candidate again."
        ) from None


def _learned_of(record: Path) -> Degradation:
    """The learned degradation that run.yaml names."""
    name = read_yaml(record).get("degradation") if record.is_file() else None
    source = find_degradation(name) if isinstance(name, str) else None
    if source is None or source.kind != "learned":
        raise InputError(
            f"{record}: does not name the learned degradation of these candidates; nothing can be checked."
        )
    return source.build(0, (0, 0))


def claimed_tolerance(path: Path, notes: Mapping[str, str], record: Path) -> float:
    """The tolerance in grey levels in a candidate's notes.

    Args:
        path: of the candidate, for messages.
        notes: of the candidate (`read_provenance`).
        record: run.yaml of the folder, which must name the same one if it is there.

    Raises:
        InputError: a damaged note, or another tolerance than the run's.
    """
    try:
        tolerance = float(notes[TOLERANCE])
        if not 0 < tolerance < 256:
            raise ValueError("no tolerance in grey levels")
    except ValueError:
        raise InputError(f"{path}: its note on the tolerance is damaged; make the candidate again.") from None
    method = read_yaml(record).get("method") if record.is_file() else None
    chosen = method.get(TOLERANCE) if isinstance(method, dict) else tolerance
    if chosen != tolerance:
        raise InputError(f"{path}: claims a tolerance of {tolerance:g}, but {record} names {chosen}; make it again.")
    return tolerance


def learned_again(path: Path, lr: Path, notes: Mapping[str, str], degradation: Degradation) -> float:
    """The L1 in grey levels that a saved candidate reaches under a learned degradation, measured again.

    Args:
        path, lr: the candidate's file and its input's.
        notes: of the candidate (`read_provenance`).
        degradation: the network.

    Raises:
        InputError: another network than the one recorded, damaged notes, or an L1 that is not the recorded one.
    """
    if recorded_degradation(path, notes) != degradation.spec():
        raise InputError(f"{path}: was made with another network called {degradation.name}; nothing can be checked.")
    noise, usual = unpack_noise(notes[NOISE])[None] if NOISE in notes else None, degradation.draw([0])
    if noise is not None and (usual is None or noise.shape != usual.shape):
        raise InputError(
            f"{path}: its degradation noise has {noise.shape[1]} numbers, which {degradation.name} does not take."
        )
    found = degradation.finish(read_image(path).pixels[None], read_image(lr).pixels, noise).l1
    l1 = float("nan") if found is None else float(found[0])
    try:
        recorded = float(notes.get("l1", "nan"))
    except ValueError:
        raise InputError(f"{path}: its note on the L1 is damaged; make the candidate again.") from None
    if not abs(l1 - recorded) <= L1_TOLERANCE:
        raise InputError(
            f"{path}: its degraded picture misses the input by an L1 of {l1:.3f} grey levels, not {recorded:.3f}"
        )
    return l1
