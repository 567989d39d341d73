"""The way down, over files: pictures in, small and if wanted damaged versions of them out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch

from preimage.degrade.corrupt import Corruption, parse_corruption
from preimage.degrade.linear import OPERATORS
from preimage.degrade.style_vae import Styled
from preimage.errors import OperatorError, OutputError, PreimageError
from preimage.files import make_folder, save_png
from preimage.image import read_image, to_uint8
from preimage.inputs import find_images, unique_stems
from preimage.invert.problem import Source, find_degradation
from preimage.processes import remove_litter
from preimage.seeds import MAX_COUNT, seed_of
from preimage.weights import load_degradation


def degrade_folder(
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    scale: float | None = None,
    size: int | None = None,
    degradation: str = "bicubic",
    border: str = "renormalise",
    style: str | Path | None = None,
    corrupt: Sequence[str] = (),
    variants: int = 0,
    seed: int = 0,
    overwrite: bool = False,
) -> tuple[int, list[str]]:
    """Small, and if wanted damaged, versions of pictures: `<output>/<stem>.png`.

    Args:
        inputs: files, folders, globs.
        output: folder.
        scale: how many times smaller, or `size`: longer side of the result in pixels; neither keeps the size.
        degradation: name of a linear one, or name ("degradation-gan"), path or hub id of a learned one, which has its own
            size. With Pillow's filters the result is Pillow's own, byte for byte.
        border: of a linear one.
        style: a natively small photo, whose style a styleVAE takes over; None draws styles from its Gaussian.
        corrupt: names as in `preimage.degrade.corrupt`, applied in order, before or after the downscaling as each says.
        variants: so many different versions of each picture, by the seeds from `seed` on: `<stem>_seed0000.png`; 0 is one.
        seed: of the corruptions and of the degradation's noise; with the picture's name it makes the seed of that picture.
        overwrite: replace files that exist.

    Returns:
        How many pictures were written, and what failed.

    Raises:
        PreimageError: settings that contradict each other, or no such degradation.
    """
    corruptions = [parse_corruption(text) for text in corrupt]
    source = find_degradation(degradation, border) if style is None else _styled(degradation, style)
    learned = source.kind != "linear"
    if not 0 <= variants <= MAX_COUNT or (variants and not learned and not corruptions):
        raise OperatorError(
            f"variants ({variants}) must be from 0 to {MAX_COUNT}, and need a learned --degradation or a --corrupt that varies."
        )
    if learned and (scale is not None or size is not None):
        raise OperatorError(f"{source.name} has its own downscaling: leave out scale and size.")
    if scale is not None and size is not None:
        raise OperatorError("give a scale or a size, not both.")
    if (scale is not None and not scale >= 1) or (size is not None and size < 1):
        raise OperatorError(f"scale ({scale}) and size ({size}) must be at least 1 where given.")
    paths, found = find_images(inputs)
    problems = [str(p) for p in found]
    stems = unique_stems(paths)
    folder = make_folder(output)
    remove_litter(folder)
    written = 0
    for path, turn in product(paths, range(max(variants, 1))):
        suffix = f"_seed{seed + turn:04d}" if variants else ""
        target = folder / f"{stems[path]}{suffix}.png"
        try:
            if target.exists() and not overwrite:
                raise OutputError(f"{target} exists. Choose another folder, or pass --overwrite.")
            own = seed_of(stems[path], seed + turn)
            picture = degrade(read_image(path).pixels, scale, size, source, corruptions, own)
            save_png(target, picture, {"degraded_by": source.name, "noise_seed": str(own)} if learned else None)
            written += 1
        except PreimageError as error:
            problems.append(str(error) if str(path) in str(error) or str(target) in str(error) else f"{path}: {error}")
            print(f"preimage: {problems[-1]}", file=sys.stderr)
    return written, problems


def _styled(degradation: str, style: str | Path) -> Source:
    """A learned degradation in the style of a photo."""
    if degradation in OPERATORS:
        raise OperatorError(f"{degradation} has no styles of photos to take; leave out the style, or choose style-vae.")
    network = load_degradation(degradation)
    return find_degradation(
        Styled(network, read_image(style).pixels, f"{network.name} in the style of {Path(style).name}")
    )


def degrade(
    picture: torch.Tensor,
    scale: float | None,
    size: int | None,
    source: Source,
    corruptions: Sequence[Corruption],
    seed: int,
) -> torch.Tensor:
    """One picture (3, H, W) in [0, 1] made small and damaged, as `degrade_folder` does it; uint8."""
    image = picture[None]
    for corruption in corruptions:
        if corruption.stage == "hr":
            image = corruption(image, seed=seed)
    height, width = picture.shape[-2:]
    if size is not None:
        scale = max(height, width) / size
    if scale is not None or source.kind != "linear":
        small = scale or 1.0
        low = (max(1, round(height / small)), max(1, round(width / small)))
        made = source.build((height, width), low)
        image = made.photograph(to_uint8(image), made.draw([seed])).float() / 255
    for corruption in corruptions:
        if corruption.stage == "lr":
            image = corruption(image, seed=seed)
    return to_uint8(image[0])
