"""Samples of a prior, without any photo: one PNG per seed, and a contact sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from preimage.candidates import package_version
from preimage.degrade.linear import bicubic
from preimage.device import resolve_device
from preimage.errors import InputError, OutputError, WeightsError
from preimage.files import read_provenance, save_png
from preimage.generate.own import missing_members
from preimage.image import to_uint8
from preimage.memory import LARGE, fitting, halved, parse_batch, unless_out_of_memory
from preimage.nets.fingerprint import fingerprint
from preimage.processes import remove_litter
from preimage.results import seed_file
from preimage.seeds import parse_seeds
from preimage.sheet import contact_sheet
from preimage.weights import load_prior

SHEET = "sheet.png"
SHEET_LIMIT = 256
"""Most pictures on a contact sheet, the first of the seeds."""
_COLUMNS = 8
_SAME = ("prior", "prior_sha256", "truncation")  # what two samples in one folder must agree in


def sample_prior(
    output: str | Path,
    seeds: str | int | Iterable[int] = "0-31",
    *,
    prior: Any = None,
    truncation: float = 1.0,
    device: str = "auto",
    batch: int | str = "auto",
    sheet: bool = True,
) -> list[Path]:
    """Write what a prior imagines for some seeds.

    Args:
        output: a folder for `seed0000.png`, … and `sheet.png`; or a file `NAME.png` for the sheet alone (without
            `sheet`: for the picture of a single seed).
        seeds: which pictures, such as "0-7,12" or range(8); a seed always gives the same picture.
        prior: name, path, hub id, `package.module:Class` or module; None takes the default.
        truncation: 1 draws from the whole prior; smaller moves every face towards the average one, which 0 is (the
            truncation trick in W; Karras et al., arXiv:1812.04948, appendix B).
        device: "auto" decides.
        batch: pictures that are made together; it does not change them. "auto" takes what fits into memory; what does not fit
            is halved.
        sheet: also draw the contact sheet, of the first `SHEET_LIMIT` seeds.

    Returns:
        The files written, the sheet last.

    Raises:
        InputError: seeds, truncation or output that make no sense together.
        OutputError: a folder that holds samples of another prior or truncation, or that cannot be written.
        WeightsError, MethodError: a prior that cannot be loaded or has no truncation.
    """
    output, wanted = Path(output), parse_seeds(seeds)
    single = output.suffix.lower() == ".png" and not output.is_dir()
    if not math.isfinite(truncation):
        raise InputError(f"truncation ({truncation}) must be a finite number; 1 is none, 0.7 is common.")
    size = parse_batch(batch)
    if single and not sheet and len(wanted) > 1:
        raise InputError(f"{output}: one file cannot hold {len(wanted)} pictures; name a folder, or ask for the sheet.")
    where = resolve_device(device)
    loaded: Any = load_prior(prior, where) if prior is None or isinstance(prior, str | Path) else prior.to(where)
    if missing := missing_members(loaded):
        raise InputError(f"a {type(loaded).__name__} is no prior; it lacks {', '.join(missing)}.")
    about = {
        "Software": f"preimage {package_version()}",
        "Comment": "Imagined by a generator of faces; nobody's photo.",
        "prior": loaded.name,
        "prior_sha256": fingerprint(loaded) or "none",
        "truncation": f"{truncation:g}",
    }
    if single and sheet:
        wanted, pictured = wanted[:SHEET_LIMIT], {}  # the sheet alone
    else:
        pictured = {seed: output if single else output / seed_file(seed) for seed in wanted}
    drawn = [output if single else output / SHEET] if sheet else []
    written = [*pictured.values(), *drawn]
    remove_litter(output.parent if single else output)
    for path in written:
        _check_free(path, about)
    shown: list[Tensor] = []
    size = size or fitting(where, loaded.resolution, lambda: loaded.resolution**2 * 12 * LARGE)
    todo = wanted
    while todo:
        chosen = todo[:size]
        pictures: Tensor | None = unless_out_of_memory(partial(_sampled, loaded, chosen, truncation))
        if pictures is None:
            size = halved(chosen, loaded.name)
            continue
        todo = todo[size:]
        if not bool(pictures.isfinite().all()):
            raise WeightsError(
                f"{loaded.name}: makes NaN or infinity for seeds {chosen[0]} to {chosen[-1]}; its weights are damaged."
            )
        for seed, picture in zip(chosen, to_uint8(pictures), strict=True):
            if seed in pictured:
                save_png(pictured[seed], picture, about | {"seed": str(seed)})
            if sheet and len(shown) < SHEET_LIMIT:
                shown.append(picture)
    for path in drawn:
        on_it = wanted[: len(shown)]
        save_png(path, _draw(shown, on_it), about | {"seeds": ",".join(map(str, on_it))})
    return written


def _sampled(prior: Any, seeds: Sequence[int], truncation: float) -> Tensor:
    """Pictures (n, 3, R, R) in [0, 1], on the CPU."""
    pictures: Tensor = prior.sample(seeds, truncation).cpu()
    return pictures


def _check_free(path: Path, about: dict[str, str]) -> None:
    """Refuse to replace a file that is not a sample of the same prior and truncation."""
    if path.is_file() and any(read_provenance(path).get(key) != about[key] for key in _SAME):
        raise OutputError(
            f"{path} is there already, and not by this prior and truncation. Choose another output, or move it away."
        )


def _draw(pictures: list[Tensor], seeds: tuple[int, ...]) -> Tensor:
    starts = range(0, len(pictures), _COLUMNS)
    captions = [[f"seed {s}" for s in seeds[i : i + _COLUMNS]] for i in starts]
    side = pictures[0].shape[-1]
    return contact_sheet([pictures[i : i + _COLUMNS] for i in starts], captions=captions, cell=min(256, max(128, side)))


def imagined_photo(seed: int, side: int = 16, prior: Any = None) -> Tensor:
    """A face that a prior imagines, made small, for whoever has no photo at hand.

    Args:
        seed: which one.
        side: of the photo, pixels.
        prior: as of `sample_prior`.

    Returns:
        (3, side, side) on the 8-bit grid, reduced by Pillow's bicubic filter.
    """
    found: Any = load_prior(prior)
    image = to_uint8(found.sample([seed]).clamp(0, 1))
    return bicubic(image.shape[-1], lr_size=side).photograph(image)[0].float() / 255
