"""The main job, from Python and from the command line: pictures in, candidates out, a folder of results."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch

from preimage.candidates import Candidates, package_version
from preimage.degrade.consistency import downscale_saved
from preimage.degrade.corrupt import Corruption, parse_corruption
from preimage.degrade.learned import Operator
from preimage.degrade.linear import make_operator
from preimage.errors import MethodError, OperatorError, OutputError, PreimageError
from preimage.files import find_images, save_png, unique_stems
from preimage.image import as_picture, read_image, to_uint8
from preimage.invert.method import Method, Varies
from preimage.invert.problem import by_name, check_size, degradation_for
from preimage.invert.registry import load
from preimage.results import ResultFolder, save_latents
from preimage.seeds import parse_seeds
from preimage.weights import load_degradation


def upsample(
    picture: object,
    seeds: str | int | Iterable[int] = "0-7",
    *,
    method: str | Method = "pulse",
    prior: Any = None,
    preset: str = "default",
    scale: float | None = None,
    operator: Operator | str | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch: int = 8,
    **controls: Any,
) -> Candidates:
    """Many sharp faces that could all lie behind one small picture.

    Args:
        picture: path, Pillow image, array or tensor of a small square face; see `preimage.image.as_picture`.
        seeds: which candidates, such as "0-7,12" or range(8); a seed always gives the same candidate.
        method: a name of `list_methods()`, or a loaded method.
        prior: name, path, hub id or module; None takes the default.
        preset: settings of the method, "default" or "paper".
        scale: checked against the prior's size where given.
        operator: the downscaling that made the picture: an object, a name, or the path of a learned degradation; None takes
            the method's own, which is bicubic for all but SR-NAM.
        device, precision: "auto" decides.
        batch: candidates that run together.
        **controls: of the method, such as `steps=50` (`preimage.invert.search.SearchSettings`).

    Returns:
        All candidates, in the order of the seeds.

    Raises:
        PreimageError: of the kind that fits; the message says how to mend it.
    """
    lr = as_picture(picture).pixels
    if isinstance(method, str):
        method = load(method, prior=prior, preset=preset, device=device, precision=precision, batch=batch)
    check_size(lr, method.resolution, scale)
    return Candidates.cat(list(method.sample(lr, parse_seeds(seeds), operator, **controls)))


@dataclass
class Tally:
    """What came of a folder run.

    Attributes:
        written, kept: candidates made now, candidates found from before.
        exact: of those written, how many downscale byte for byte.
        learned: of those written, how many answer to a learned degradation and therefore cannot be exact.
        l1: sum over those of the L1 that they reach, grey levels.
        problems: what failed, one message each.
    """

    written: int = 0
    kept: int = 0
    exact: int = 0
    learned: int = 0
    l1: float = 0.0
    problems: list[str] = field(default_factory=list)


def upsample_folder(
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    method: str = "pulse",
    prior: str | None = None,
    preset: str = "default",
    scale: float | None = None,
    seeds: str | int | Iterable[int] = "0-7",
    operator: str | None = None,
    border: str = "renormalise",
    variants: int = 0,
    device: str = "auto",
    precision: str = "auto",
    batch: int = 8,
    latents: bool = False,
    overwrite: bool = False,
    controls: Mapping[str, Any] | None = None,
) -> Tally:
    """`upsample` over files, folders and globs, into a folder of results that the same call completes after a stop.

    Args:
        inputs: files, folders, globs.
        output: see the layout in `preimage.results.ResultFolder`.
        operator: name of a linear downscaling, or name, path or hub id of a learned one; None takes the method's own.
        variants: for each candidate also so many with resampled fine noise, `seed0000_noise0000.png`.
        latents: keep the latents of every batch made now, `latents0000.safetensors`, named by its first seed.
        overwrite: replace results of other settings.
        controls: of the method.

    Returns:
        What was done and what failed; a bad picture does not stop the others.

    Raises:
        PreimageError: settings that cannot work at all, or a disk that takes nothing more.
    """
    wanted = parse_seeds(seeds)
    if variants < 0:
        raise MethodError(f"variants ({variants}) must be 0 or more.")
    paths, problems = find_images(inputs)
    tally = Tally(problems=[str(p) for p in problems])
    loaded = load(method, prior=prior, preset=preset, device=device, precision=precision, batch=batch)
    operator = operator or loaded.capabilities.default_operator
    named = by_name(operator)
    settings = {
        "method": {**loaded.describe(), **(controls or {})},
        "operator": operator,
        "border": border,
        "precision": precision,
        "inputs": [str(i) for i in inputs],
        "seeds": ",".join(map(str, wanted)),
        "variants": variants,
        "save_latents": latents,
        "device": device,
        "batch": batch,
        "versions": {"preimage": package_version(), "torch": torch.__version__, "python": sys.version.split()[0]},
    }
    folder = ResultFolder.open(output, settings, overwrite)
    stems = unique_stems(paths)
    with _Bar(len(paths) * len(wanted)) as bar:
        for problem in problems:
            bar.say(f"preimage: {problem}")
        for path in paths:
            try:
                picture = read_image(path)
                for note in picture.notes:
                    bar.say(f"{path}: {note}")
                lr = picture.pixels
                check_size(lr, loaded.resolution, scale)
                chosen = degradation_for(lr, loaded.resolution, named, border)
                target = folder.claim(stems[path], lr, overwrite)
                todo = folder.missing(stems[path], wanted, variants)
                tally.kept += len(wanted) - len(todo)
                bar.skip(len(wanted) - len(todo))
                for part in loaded.sample(lr, todo, chosen, on_step=bar.step, **(controls or {})):
                    if latents and part.latents:  # first, so that a finished candidate never lacks them
                        save_latents(target / f"latents{part.seeds[0]:04d}.safetensors", part)
                    folder.write(stems[path], part)
                    _write_variants(folder, stems[path], loaded, part, variants)
                    tally.written += len(part)
                    tally.exact += int(part.exact.sum())
                    if part.l1 is not None:
                        tally.learned += len(part)
                        tally.l1 += float(part.l1.sum())
                    bar.wrote(len(part))
                if todo or not (target / "grid.png").is_file():
                    folder.grid(stems[path], lr, wanted)
            except OutputError:
                raise  # nothing further can be written
            except PreimageError as error:
                text = str(error) if str(path) in str(error) else f"{path}: {error}"
                tally.problems.append(text)
                bar.say(f"preimage: {text}")
    return tally


def degrade_folder(
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    scale: float | None = None,
    size: int | None = None,
    operator: str = "bicubic",
    border: str = "renormalise",
    corrupt: Sequence[str] = (),
    model: str | None = None,
    variants: int = 0,
    seed: int = 0,
    overwrite: bool = False,
) -> tuple[int, list[str]]:
    """Small, and if wanted damaged, versions of pictures: `<output>/<stem>.png`.

    Args:
        inputs: files, folders, globs.
        output: folder.
        scale: how many times smaller, or `size`: longer side of the result in pixels; neither keeps the size.
        operator, border: the downscaling. With Pillow's filters the result is Pillow's own, byte for byte.
        corrupt: names as in `preimage.degrade.corrupt`, applied in order, before or after the downscaling as each says.
        model: a learned degradation in the place of the downscaling: an embedded one ("degradation-gan"), a path, a hub id.
        variants: so many different versions of each picture, by the seeds from `seed` on: `<stem>_seed0000.png`; 0 is one.
        seed: of the corruptions and of the model's noise; with the picture's name it makes the seed of that picture.
        overwrite: replace files that exist.

    Returns:
        How many pictures were written, and what failed.

    Raises:
        PreimageError: settings that contradict each other, or no such model.
    """
    corruptions = [parse_corruption(text) for text in corrupt]
    if variants < 0 or (variants and model is None and not corruptions):
        raise OperatorError(f"variants ({variants}) must be 0 or more, and need a --model or a --corrupt that varies.")
    if model is not None and (scale is not None or size is not None or operator != "bicubic"):
        raise OperatorError(f"{model} has its own downscaling: leave out scale, size and operator.")
    learned: Any = load_degradation(model) if model is not None else None
    if scale is not None and size is not None:
        raise OperatorError("give a scale or a size, not both.")
    if (scale is not None and not scale >= 1) or (size is not None and size < 1):
        raise OperatorError(f"scale ({scale}) and size ({size}) must be at least 1 where given.")
    paths, found = find_images(inputs)
    problems = [str(p) for p in found]
    stems = unique_stems(paths)
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output}: cannot be created ({error.strerror}). Choose another folder with -o.") from None
    written = 0
    for path, turn in product(paths, range(max(variants, 1))):
        suffix = f"_seed{seed + turn:04d}" if variants else ""
        target = folder / f"{stems[path]}{suffix}.png"
        try:
            if target.exists() and not overwrite:
                raise OutputError(f"{target} exists. Choose another folder, or pass --overwrite.")
            digest = hashlib.blake2b(f"{seed + turn}/{stems[path]}".encode(), digest_size=4).digest()
            own = int.from_bytes(digest, "big")  # of this picture, whatever else is in the list
            picture = degrade(read_image(path).pixels, scale, size, operator, border, corruptions, own, learned)
            save_png(target, picture, {"degradation": learned.name, "noise_seed": str(own)} if learned else None)
            written += 1
        except PreimageError as error:
            problems.append(str(error) if str(path) in str(error) or str(target) in str(error) else f"{path}: {error}")
            print(f"preimage: {problems[-1]}", file=sys.stderr)
    return written, problems


def degrade(
    picture: torch.Tensor,
    scale: float | None,
    size: int | None,
    operator: str,
    border: str,
    corruptions: Sequence[Corruption],
    seed: int,
    learned: Any = None,
) -> torch.Tensor:
    """One picture (3, H, W) in [0, 1] made small and damaged, as `degrade_folder` does it; uint8."""
    image = picture[None]
    for corruption in corruptions:
        if corruption.stage == "hr":
            image = corruption(image, seed=seed)
    height, width = picture.shape[-2:]
    if learned is not None:
        image = learned.degrade(image, [seed])
    elif size is not None:
        scale = max(height, width) / size
    if scale is not None:
        low = (max(1, round(height / scale)), max(1, round(width / scale)))
        image = downscale_saved(
            to_uint8(image), make_operator(operator, hr_size=(height, width), lr_size=low, border=border)
        )
        image = image.float() / 255
    for corruption in corruptions:
        if corruption.stage == "lr":
            image = corruption(image, seed=seed)
    return to_uint8(image[0])


def _write_variants(folder: ResultFolder, stem: str, method: Method, part: Candidates, variants: int) -> None:
    if not variants:
        return
    if not isinstance(method, Varies):
        raise MethodError(f"{method.name} cannot resample fine noise; leave out the variants.")
    for i, seed in enumerate(part.seeds):
        varied = method.resample_noise(part, i, range(variants))
        folder.write(stem, varied, variant_of=seed)


class _Bar:
    """Progress: candidates done, candidates per second, steps of the batch at work."""

    def __init__(self, total: int) -> None:
        from tqdm import tqdm

        self.bar = tqdm(total=total, unit="candidate", disable=None, dynamic_ncols=True)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def step(self, step: int, searching: torch.Tensor) -> None:
        if step % 5 == 0:
            self.bar.set_postfix_str(f"step {step}, {len(searching)} searching")

    def skip(self, count: int) -> None:
        self.bar.total = (self.bar.total or 0) - count
        self.bar.refresh()

    def wrote(self, count: int) -> None:
        self.bar.update(count)

    def say(self, text: str) -> None:
        self.bar.write(text, file=sys.stderr)
