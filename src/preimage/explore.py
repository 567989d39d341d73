"""The main job, from Python and from the command line: pictures in, candidates out, a folder of results."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from preimage.candidates import Candidates, package_version
from preimage.degrade.learned import Operator
from preimage.errors import MethodError, OccupiedError, OutputError, PreimageError
from preimage.image import as_picture, picture_size, read_image
from preimage.inputs import find_images, unique_stems
from preimage.invert.method import Method, Varies
from preimage.invert.problem import by_name, check_sides, check_size, degradation_for
from preimage.invert.registry import DEFAULT, load
from preimage.results import ResultFolder, save_latents
from preimage.seeds import MAX_COUNT, parse_seeds
from preimage.weight_files import sha256


def upsample(
    picture: object,
    seeds: str | int | Iterable[int] = "0-7",
    *,
    method: str | Method = DEFAULT,
    prior: Any = None,
    preset: str = "default",
    scale: float | None = None,
    operator: Operator | str | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch: int | str = "auto",
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
        batch: candidates that run together; "auto" takes what fits into memory.
        **controls: of the method, such as `temperature=0.7` (`preimage.invert.posterior.PosteriorSettings`).

    Returns:
        All candidates, in the order of the seeds.

    Raises:
        PreimageError: of the kind that fits; the message says how to mend it.
    """
    size = picture_size(picture)  # before a method is loaded: most mistakes show here
    if isinstance(method, str):
        method = load(method, prior=prior, preset=preset, device=device, precision=precision, batch=batch)
    elif not hasattr(method, "sample") or not hasattr(method, "resolution"):
        raise MethodError(f"method ({method!r:.60}) must be a name of `list_methods()` or a loaded method.")
    if size is not None:
        check_sides(*size, method.resolution, scale)  # before anything is decoded
    lr = as_picture(picture).pixels
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
        tolerated: of those written, how many answer within a tolerance by choice, and are therefore not called exact.
        within: how many of them keep to it.
        tolerance: that tolerance, grey levels.
        problems: what failed, one message each.
    """

    written: int = 0
    kept: int = 0
    exact: int = 0
    learned: int = 0
    l1: float = 0.0
    tolerated: int = 0
    within: int = 0
    tolerance: float = 0.0
    problems: list[str] = field(default_factory=list)


def upsample_folder(
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    method: str = DEFAULT,
    prior: str | None = None,
    preset: str = "default",
    scale: float | None = None,
    seeds: str | int | Iterable[int] = "0-7",
    operator: str | None = None,
    border: str = "renormalise",
    variants: int = 0,
    device: str = "auto",
    precision: str = "auto",
    batch: int | str = "auto",
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
    if not 0 <= variants <= MAX_COUNT:
        raise MethodError(f"variants ({variants}) must be from 0 to {MAX_COUNT}.")
    paths, problems = find_images(inputs)
    tally = Tally(problems=[str(p) for p in problems])
    loaded = load(method, prior=prior, preset=preset, device=device, precision=precision, batch=batch)
    controls = dict(controls or {})
    if hasattr(loaded, "check"):
        loaded.check(controls, wanted)  # before a folder is marked with settings that cannot work
    if variants and not isinstance(loaded, Varies):
        raise MethodError(f"{loaded.name} cannot resample fine noise; leave out the variants.")
    reference = {"reference_sha256": sha256(Path(controls["reference"]))} if controls.get("reference") else {}
    operator = operator or loaded.capabilities.default_operator
    named = by_name(operator)
    settings = {
        "method": {**loaded.describe(), **controls, **reference},
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
    stems = unique_stems(paths)
    with (
        ResultFolder.open(output, settings, overwrite) as folder,
        _Bar(len(paths) * len(wanted)) as bar,
    ):
        for problem in problems:
            bar.say(f"preimage: {problem}")
        for note in folder.notes:
            bar.say(f"preimage: {note}")
        for path in paths:
            try:
                size = picture_size(path)
                check_sides(*size, loaded.resolution, scale)  # before anything is decoded
                picture = read_image(path)
                for note in picture.notes:
                    bar.say(f"{path}: {note}")
                lr = picture.pixels
                chosen = degradation_for(lr, loaded.resolution, named, border)
                target = folder.claim(stems[path], lr, overwrite)
                todo = folder.missing(stems[path], wanted, variants, loaded.resolution)
                tally.kept += len(wanted) - len(todo)
                bar.skip(len(wanted) - len(todo))
                for part in loaded.sample(lr, todo, chosen, on_step=bar.step, **controls):
                    if latents and part.latents:  # first, so that a finished candidate never lacks them
                        save_latents(target / f"latents{part.seeds[0]:04d}.safetensors", part)
                    written = folder.write(stems[path], part)
                    _write_variants(folder, stems[path], loaded, part, variants)
                    tally.written += len(written)
                    tally.exact += int(part.exact[written].sum())
                    if part.l1 is not None:
                        tally.learned += len(written)
                        tally.l1 += float(part.l1[written].sum())
                    elif part.tolerance:
                        tally.tolerated += len(written)
                        tally.within += int(part.within[written].sum())
                        tally.tolerance = part.tolerance
                    bar.wrote(len(part))
                if todo or not (target / "grid.png").is_file():
                    folder.grid(stems[path], lr, wanted)
            except PreimageError as error:
                if isinstance(error, OutputError) and not isinstance(error, OccupiedError):
                    raise  # nothing further can be written
                text = str(error) if str(path) in str(error) else f"{path}: {error}"
                tally.problems.append(text)
                bar.say(f"preimage: {text}")
    return tally


def _write_variants(folder: ResultFolder, stem: str, method: Method, part: Candidates, variants: int) -> None:
    if not variants or not isinstance(method, Varies):
        return
    for i, seed in enumerate(part.seeds):
        for first in range(0, variants, len(part)):  # as many at once as the search took
            varied = method.resample_noise(part, i, range(variants)[first : first + len(part)])
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
