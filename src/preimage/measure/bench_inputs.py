"""Truths and inputs of a benchmark: faces of a collection, and what a degradation makes of them."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from preimage.collection import Collection
from preimage.errors import InputError, OperatorError, OutputError
from preimage.files import plain_name, read_yaml, save_png, to_yaml, write_text_atomic
from preimage.image import to_uint8
from preimage.invert.problem import find_degradation
from preimage.processes import remove_litter
from preimage.seeds import seed_of


def prepare(
    folder: Path,
    collection: Collection,
    names: Sequence[str],
    side: int,
    scale: float,
    degradation: str,
    settings: Mapping[str, Any],
) -> None:
    """Write truths and inputs, or find them from before."""
    record = folder / "bench.yaml"
    if record.is_file() and read_yaml(record) != settings:
        raise InputError(f"{folder} holds a benchmark of other settings (bench.yaml). Choose another folder with -o.")
    size = round(side / scale)
    if not 1 <= size < side:
        raise OperatorError(f"scale ({scale:g}): makes {size} pixels of {side}. Give one above 1 that leaves some.")
    shrink = _shrinker(degradation, side, size)
    try:
        for part in ("reference", "inputs"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        remove_litter(folder, folder / "reference", folder / "inputs", folder / "statistics")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be created ({error.strerror}). Choose another folder with -o.") from None
    lines: list[dict[str, str]] = []
    for name, stem in _stems(names).items():
        lines.append({**collection.about(name), "file": f"{stem}.png"})
        if (folder / "inputs" / f"{stem}.png").is_file() and (folder / "reference" / f"{stem}.png").is_file():
            continue
        if min(collection.image(name).size) < side:
            raise InputError(f"{collection.path}: {name} is smaller than {side} pixels; it cannot be the truth.")
        truth = to_uint8(collection.tensor(name, side)[None])
        save_png(folder / "reference" / f"{stem}.png", truth[0])
        save_png(folder / "inputs" / f"{stem}.png", shrink(truth, stem))
    keys = list(dict.fromkeys(["file", *(key for line in lines for key in line)]))
    text = io.StringIO()
    table = csv.DictWriter(text, keys, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(lines)
    write_text_atomic(folder / "reference" / "index.csv", text.getvalue())
    write_text_atomic(record, to_yaml(settings))


def _stems(names: Sequence[str]) -> dict[str, str]:
    """A file name for each picture of a collection, different also where capitals do not count."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(names):
        path = PurePosixPath(name)
        stem = plain_name("_".join((*path.parent.parts, path.stem)))
        if stem.casefold() in taken:
            stem = plain_name(f"{stem}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:12]}")
        taken.add(stem.casefold())
        found[name] = stem
    return {name: found[name] for name in names}


def _shrinker(degradation: str, side: int, size: int) -> Callable[[Tensor, str], Tensor]:
    """Truth (1, 3, side, side) uint8 and its name -> input (3, size, size) uint8; chance, where there is any, follows the name."""
    made = find_degradation(degradation).build(side, (size, size))
    made.check(side)

    def shrink(truth: Tensor, stem: str) -> Tensor:
        small = made.photograph(truth, made.draw([seed_of(stem)]))[0]
        if small.shape[-1] != size:
            raise OperatorError(
                f"{made.name} makes {small.shape[-1]} pixels; give the scale {side / small.shape[-1]:g}."
            )
        return small

    return shrink
