"""A folder of pictures, ours or another tool's, as inputs with their candidates, each beside its reference.

Three layouts are understood:

* `DIR/<stem>/seed0000.png …` with `input.png`, as `preimage upsample` writes it;
* `DIR/<stem>/<any name>.png …`: one folder per input;
* `DIR/<stem>.png`, or `DIR/<stem>_<anything>.png` for several candidates, where `<stem>` is the name of a reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from preimage.candidates import TOLERANCE
from preimage.collection import Collection
from preimage.degrade.learned import WHY_INEXACT
from preimage.degrade.linear import LinearOperator, make_operator
from preimage.errors import InputError
from preimage.files import read_provenance
from preimage.image import read_image
from preimage.inputs import EXTENSIONS
from preimage.measure.groups import parse_groups
from preimage.photo_folder import RECORD
from preimage.verify import linear_operator, recorded_degradation

_SEED = re.compile(r"seed\d+\.png")
_NOT_CANDIDATES = ("input", "grid")


@dataclass(frozen=True)
class Case:
    """One input with its candidates, as files.

    Attributes:
        name: of the input.
        files: the candidates.
        input: the low-resolution picture; None if it is not at hand.
        reference: name in the collection of references; None without one.
        groups: of the person, such as {"gender": "female"}.
    """

    name: str
    files: tuple[Path, ...]
    input: Path | None = None
    reference: str | None = None
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Pictures:
    """What a case holds, decoded.

    Attributes:
        images: (n, 3, H, W) in [0, 1], every value k/255.
        lr: (3, h, w), or None.
        operator: from images to lr, or None.
        reference: (3, H, W), or None.
        l1: (n,) grey levels, where the files answer to a learned degradation: what they recorded of it; else None.
        tolerance: what the files say of theirs, grey levels; empty where they mean to be exact.
    """

    images: Tensor
    lr: Tensor | None = None
    operator: LinearOperator | None = None
    reference: Tensor | None = None
    l1: Tensor | None = None
    tolerance: str = ""


def find_cases(
    results: str | Path, reference: Collection | None = None, lr: Collection | None = None
) -> tuple[list[Case], list[str]]:
    """The inputs of a folder, each with its candidates, its low-resolution picture and its reference.

    Args:
        results: the folder, in one of the layouts above.
        reference: true pictures; every input needs one of its name. None judges without truth.
        lr: low-resolution pictures by the same names, where the folder itself does not hold them.

    Returns:
        Cases in the order of their names, and one message for every file or folder that is left out.

    Raises:
        InputError: no such folder, or nothing to judge in it.
    """
    folder = Path(results)
    if not folder.is_dir():
        raise InputError(f"{results}: no such folder. Give a folder of pictures, such as `preimage upsample -o` fills.")
    references = _by_stem(reference)
    smalls = _by_stem(lr)
    groups, problems = _groups(folder, tuple(references))
    cases: list[Case] = []
    for name, files in sorted(groups.items()):
        found = references.get(name)
        if reference is not None and found is None:
            problems.append(f"{folder / name}: no reference of that name in {reference.path}; rename one of the two.")
            continue
        kept = folder / name / "input.png"
        small = kept if kept.is_file() else None
        if small is None and lr is not None and name in smalls:
            small = lr.path / smalls[name]
        about = parse_groups(reference.about(found)) if reference is not None and found is not None else {}
        cases.append(Case(name, tuple(files), small, found, about))
    if not cases:
        more = f" ({problems[0]})" if problems else ""
        raise InputError(f"{results}: no candidates here{more}. Give a folder of pictures, or of folders of pictures.")
    return cases, problems


def open_case(case: Case, reference: Collection | None = None, scale: float | None = None) -> Pictures:
    """Decode a case.

    Args:
        case: what to open.
        reference: the collection it was found with; a larger reference is reduced to the candidates' size by Lanczos.
        scale: makes the low-resolution picture from the reference, by bicubic, where there is none.

    Raises:
        InputError: a picture that cannot be read, candidates of different sizes, a reference that does not fit.
    """
    images = [read_image(path).pixels for path in case.files]
    if len({image.shape for image in images}) > 1:
        raise InputError(f"{case.files[0].parent}: the candidates of {case.name} differ in size; judge them apart.")
    stack = torch.stack(images)
    truth = None
    if reference is not None and case.reference is not None:
        truth = _truth(reference, case.reference, (stack.shape[2], stack.shape[3]))
    small = read_image(case.input).pixels if case.input is not None else None
    l1 = _learned_l1(case.files)
    operator = None
    if l1 is None and small is None and truth is not None and scale is not None:
        operator = make_operator("bicubic", hr_size=(truth.shape[1], truth.shape[2]), scale=scale)
        small = _shrunk(truth, operator)
    elif l1 is None and small is not None:
        operator = _operator(case.files[0], (stack.shape[2], stack.shape[3]), (small.shape[1], small.shape[2]))
    tolerance = read_provenance(case.files[0]).get(TOLERANCE, "")
    return Pictures(stack, small, operator, truth, l1, tolerance)


def _shrunk(picture: Tensor, operator: LinearOperator) -> Tensor:
    from preimage.degrade.consistency import downscale_saved
    from preimage.image import to_uint8

    return downscale_saved(to_uint8(picture[None]), operator)[0].float() / 255


def _truth(reference: Collection, name: str, size: tuple[int, int]) -> Tensor:
    whole = reference.tensor(name)
    if (whole.shape[1], whole.shape[2]) == size:
        return whole
    if size[0] == size[1] and min(whole.shape[1:]) >= size[0]:
        return reference.tensor(name, side=size[0])
    raise InputError(
        f"{reference.path}: {name} is {whole.shape[2]}x{whole.shape[1]}, the candidates are {size[1]}x{size[0]}. Give "
        "references of the candidates' size, or larger ones for square candidates."
    )


def _operator(candidate: Path, hr_size: tuple[int, int], lr_size: tuple[int, int]) -> LinearOperator:
    """What the file says it answers to, else bicubic."""
    spec = recorded_degradation(candidate, read_provenance(candidate))
    if spec is not None and [spec.get("hr_size"), spec.get("lr_size")] == [list(hr_size), list(lr_size)]:
        return linear_operator(candidate, spec, hr_size[::-1], lr_size[::-1])
    return make_operator("bicubic", hr_size=hr_size, lr_size=lr_size)


def _learned_l1(files: tuple[Path, ...]) -> Tensor | None:
    """What candidates of a learned degradation say of themselves; None as soon as one is of another kind."""
    found = []
    for path in files:
        notes = read_provenance(path)
        if notes.get("inexact_because") != WHY_INEXACT:
            return None
        try:
            found.append(float(notes["l1"]))
            if not 0 <= found[-1] <= 255:
                raise ValueError("no mean difference of grey levels")
        except (KeyError, ValueError):
            raise InputError(f"{path}: its note on the L1 is damaged; make the candidate again.") from None
    return torch.tensor(found)


def _by_stem(collection: Collection | None) -> dict[str, str]:
    """Names of a collection by stem; pictures that share a stem are called `folder_stem`, all of them."""
    if collection is None:
        return {}
    stems: dict[str, list[str]] = {}
    for name in collection.names:
        stems.setdefault(PurePosixPath(name).stem, []).append(name)
    out: dict[str, str] = {}
    for stem, names in stems.items():
        for name in names:
            path = PurePosixPath(name)
            out[stem if len(names) == 1 else "_".join((*path.parts[:-1], path.stem))] = name
    return out


def _groups(folder: Path, references: tuple[str, ...]) -> tuple[dict[str, list[Path]], list[str]]:
    """Candidates by the name of their input."""
    groups: dict[str, list[Path]] = {}
    problems: list[str] = []
    known = sorted(references, key=len, reverse=True)
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if (path / RECORD).is_file() and not (
                path / "input.png"
            ).exists():  # pasted photos: their faces are candidates of other folders
                continue
            files = _candidates(path)
            if files:
                groups[path.name] = files
            elif any(path.iterdir()):
                problems.append(f"{path}: holds no candidates.")
        elif path.suffix.lower() in EXTENSIONS:
            name = next((k for k in known if path.stem == k or path.stem.startswith((f"{k}_", f"{k}-", f"{k}."))), None)
            groups.setdefault(name or path.stem, []).append(path)
    return groups, problems


def _candidates(folder: Path) -> list[Path]:
    pictures = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in EXTENSIONS and p.is_file()]
    seeds = [p for p in pictures if _SEED.fullmatch(p.name)]
    return seeds or [p for p in pictures if p.stem not in _NOT_CANDIDATES and not p.name.startswith(".")]
