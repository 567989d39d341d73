"""The main job, from Python and from the command line: pictures in, candidates out, a folder of results."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from preimage.candidates import Candidates, package_version
from preimage.degrade.degradation import Degradation
from preimage.degrade.learned import LearnedDegradation
from preimage.device import resolve_threads
from preimage.errors import InputError, MethodError
from preimage.faces.detect import DEFAULT as DETECTOR
from preimage.faces.face import Detector
from preimage.faces.finding import how_to_find
from preimage.fill import Fill, Progress, Silent, Tally, Wanted, reseed_handle
from preimage.image import picture_size
from preimage.inputs import find_images, unique_stems
from preimage.invert.guides import as_guides
from preimage.invert.method import Method
from preimage.invert.problem import Problem, find_degradation
from preimage.invert.registry import DEFAULT, load
from preimage.latent_files import load_latents
from preimage.photo_folder import PhotoFace, paste_photo, sort_inputs
from preimage.picking import Embedding, Picking
from preimage.results import ResultFolder
from preimage.seeds import MAX_COUNT, parse_seeds, write_seeds
from preimage.session import Session, check_continues, check_many, one_if_alike, take_up
from preimage.weight_files import sha256


def upsample(
    picture: object,
    seeds: str | int | Iterable[int] = "0-7",
    *,
    method: str | Method = DEFAULT,
    prior: Any = None,
    weights: Any = None,
    preset: str | None = None,
    scale: float | None = None,
    reduce: int | None = None,
    degradation: Degradation | LearnedDegradation | str | None = None,
    device: str | None = None,
    precision: str | None = None,
    batch: int | str | None = None,
    at: Candidates | Mapping[str, Tensor] | None = None,
    pick: int | None = None,
    by: str | Embedding = "pixels",
    **controls: Any,
) -> Candidates:
    """Many sharp faces that could all lie behind one small picture.

    Args:
        picture: path, Pillow image, array or tensor of a small square face; see `preimage.image.as_picture`.
        seeds: which candidates, such as "0-7,12" or range(8); a seed always gives the same candidate.
        method: a name of `list_methods()`, or a loaded method.
        prior, weights: name, path, hub id or module of the prior, or of the method's own network; None takes the default.
        preset: settings of the method, "default" or "paper".
        scale: checked against the prior's size where given.
        reduce: side to which a larger photo is brought first, by area: a soft photo of 27 pixels says no more than a sharp one of 16,
            and that is answered with a sharp face. What comes out is exact to the reduced photo, `Candidates.lr`.
        degradation: what made the picture: an object, a name, or the path of a learned one; None takes the method's own,
            which is bicubic for all but SR-NAM.
        device, precision: "auto" decides.
        batch: candidates that run together; "auto" takes what fits into memory.
        at: candidates, or their latents, to go on from, one for each seed.
        pick: so many of all, those that differ most in what `by` says (`preimage.picking.pick`), such as 8 with `seeds=range(64)`.
        by: "pixels", "identity", "landmarks", "identity=FILE", or an embedding of your own.
        **controls: of the method, such as `temperature=0.7` (`Method.Settings`), and its further inputs, such as
            `reference="face.png"` (`Capabilities.inputs`).

    Returns:
        All candidates, in the order of the seeds; one of a method without chance. Picked ones in the order of picking.

    Raises:
        PreimageError: of the kind that fits; the message says how to mend it.
    """
    picture_size(picture)  # before a method is loaded: a file that is none shows here
    built = {
        "prior": prior,
        "weights": weights,
        "preset": preset,
        "device": device,
        "precision": precision,
        "batch": batch,
    }
    given = {name: value for name, value in built.items() if value is not None}
    method = as_method(method, given)
    guides, settings = split_controls(method, controls)
    session, wanted = Session(method), parse_seeds(seeds)
    session.configure(settings, wanted, guides.keys())
    session.pose(picture, degradation, scale, reduce=reduce, **guides)
    latents = at.latents if isinstance(at, Candidates) else at
    if pick is not None:
        return session.pick(pick, wanted, by, latents)
    return Candidates.cat(list(session.more(wanted, latents)))


def as_method(method: str | Method, given: Mapping[str, Any]) -> Method:
    """A method by name, loaded as `preimage.load` does with what is given; or one that is loaded already.

    Raises:
        MethodError: neither, or one that is loaded and takes nothing further.
    """
    if isinstance(method, str):
        return load(method, **given)
    if not isinstance(method, Method):
        raise MethodError(f"method ({method!r:.60}) must be a name of `list_methods()` or a loaded method.")
    if given:
        raise MethodError(f"{', '.join(given)}: {method.name} is loaded already; give them to preimage.load instead.")
    return method


def split_controls(method: Method, controls: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Guides, and settings, of what a user gave by name; an empty guide is none, and a word in its place (`Input.words`) a setting."""
    inputs = {given.name: given for given in method.capabilities.inputs}
    guides, settings = dict[str, Any](), dict[str, Any]()
    for name, value in controls.items():
        if name not in inputs:
            settings.setdefault(name, value)
        elif isinstance(value, str) and value in inputs[name].words:
            settings[inputs[name].words[value]] = value
        elif value is not None and not (isinstance(value, str) and value == ""):
            guides[name] = value
    return guides, settings


def upsample_folder(
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    method: str = DEFAULT,
    prior: str | None = None,
    weights: str | None = None,
    preset: str = "default",
    scale: float | None = None,
    reduce: int | None = None,
    seeds: str | int | Iterable[int] = "0-7",
    degradation: str | None = None,
    border: str = "renormalise",
    variants: int = 0,
    device: str = "auto",
    precision: str = "auto",
    batch: int | str = "auto",
    latents: bool = False,
    side_outputs: bool = False,
    branches: str | None = None,
    at: str | Path | None = None,
    pick: int | None = None,
    by: str = "pixels",
    faces: str | None = None,
    points: Sequence[Sequence[float]] | None = None,
    detector: str | Path | Detector = DETECTOR,
    overwrite: bool = False,
    controls: Mapping[str, Any] | None = None,
    threads: int | str = "auto",
    progress: Progress | None = None,
) -> Tally:
    """`upsample` over files, folders and globs, into a folder of results that the same call completes after a stop.

    Photos of one size run together where the method can (`Method.sample_each`): what counts is candidates, not photos.

    Args:
        inputs: files, folders, globs.
        output: see the layout in `preimage.results.ResultFolder`.
        reduce: as in `upsample`; `input.png` is the reduced photo.
        degradation: name of a linear one, or name, path or hub id of a learned one; None takes the method's own.
        variants: for each candidate also so many with its finest random numbers drawn anew (the last "reseed" of
            `Capabilities.handles` that its network has), `seed0000_noise0000.png`.
        latents: keep the latents of candidates made now, a batch's in one file named by its first seed, `latents0000.safetensors`.
        side_outputs: keep the prior's smaller pictures of candidates made now too, `side32_seed0000.png` (`Method.side_outputs`).
        branches: learned ones of the prior, which draw these pictures, and those of `coarse` steps; name or path.
        at: such a file, to go on from; it must hold every seed that is asked for.
        pick, by: as in `upsample`; only the picked ones are written, once all of a photo are drawn. An interrupted photo is drawn again.
        faces: the inputs are photos of any kind, and of each "all" faces are meant, the "largest" or the one nearest to the
            "centre". Each becomes an entry of its own, `photo_face0`, and `photo/pasted_seed0000.png` is the enlarged photo
            with all of them. None: each input is a face already, square and aligned.
        points: where the face of the one photo is: five of (x, y), see `preimage.faces.face.Face`.
        detector: what looks for them (`preimage.faces.detect.load_detector`).
        overwrite: replace results of other settings.
        controls: of the method, and its further inputs as paths.
        threads: of torch; "auto" takes the cores that are free. Other than the other arguments it holds for the whole process.
        progress: who watches; None: nobody.

    Returns:
        What was done and what failed; a bad picture does not stop the others.

    Raises:
        PreimageError: settings that cannot work at all, or a disk that takes nothing more.
    """
    watch, wanted = progress or Silent(), parse_seeds(seeds)
    if not 0 <= variants <= MAX_COUNT:
        raise MethodError(f"variants ({variants}) must be from 0 to {MAX_COUNT}.")
    torch.set_num_threads(resolve_threads(threads))
    paths, problems = find_images(inputs)
    tally = Tally(problems=[str(p) for p in problems])
    find = how_to_find(faces, points, detector)
    loaded = load(method, prior=prior, weights=weights, preset=preset, device=device, precision=precision, batch=batch)
    if branches is not None:
        loaded.attach(branches)
    if side_outputs and not loaded.side_sizes:
        raise MethodError(
            f"{loaded.name} draws no smaller pictures here; leave out the side outputs, or take pulse or sr-nam with a StyleGAN2."
        )
    guides, chosen = split_controls(loaded, controls or {})
    # before a folder is marked with settings that cannot work
    configured = loaded.configure(chosen, wanted, guides.keys())
    ready = as_guides(loaded, guides)
    if variants and not reseed_handle(loaded):
        raise MethodError(f"{loaded.name} has nothing to draw anew; leave out the variants.")
    start = load_latents(at, wanted) if at is not None else None
    check_continues(loaded, start)
    if pick is not None:
        check_many(loaded)
    picking = Picking.plan(pick, len(wanted), by) if pick is not None else None
    wanted = one_if_alike(loaded, wanted, watch.say)
    degradation = degradation or loaded.capabilities.default_degradation
    source = find_degradation(degradation, border)
    loaded.answers_to(source)
    settings = {
        "method": loaded.describe(configured),
        "degradation": degradation,
        "border": border,
        "reduce": reduce,
        "precision": precision,
        "inputs": [str(i) for i in inputs],
        "seeds": ",".join(map(str, wanted)),
        "pick": {"count": pick, "by": picking.name, "of": write_seeds(wanted)} if picking else None,
        "variants": variants,
        "save_latents": latents,
        "side_outputs": side_outputs,
        "device": device,
        "batch": batch,
        "threads": torch.get_num_threads(),
        "versions": {"preimage": package_version(), "torch": torch.__version__, "python": sys.version.split()[0]},
    }
    settings |= (
        {"guides": {name: {"file": str(x), "sha256": sha256(Path(x))} for name, x in guides.items()}} if guides else {}
    )
    settings |= {"trained_for": list(loaded.trained_for)} if loaded.trained_for else {}
    settings |= {"from": {"file": str(at), "sha256": sha256(Path(at))}} if at is not None else {}
    settings |= find.record() if find else {}
    stems = unique_stems(paths)
    items, photos, failed = sort_inputs(loaded, {path: stems[path] for path in paths}, find, reduce)
    watch.begin(len(items) * len(wanted))

    def pose(item: Path | PhotoFace) -> tuple[Problem, tuple[str, ...]]:
        picture, smaller = (item.cut.lr, None) if isinstance(item, PhotoFace) else (item, reduce)
        return take_up(loaded, picture, source, scale, reduce=smaller, **ready)

    with ResultFolder.open(output, settings, overwrite) as folder:
        for note in [
            *(f"preimage: {problem}" for problem in problems),
            *(f"preimage: {note}" for note in folder.notes),
        ]:
            watch.say(note)
        todo = Wanted(wanted, variants, start, latents, overwrite, side_outputs, picking)
        fill = Fill(loaded, configured, folder, todo, pose, watch, tally)
        for path, error in failed.items():
            fill.failed(path, error)
        for photo in photos:
            for note in photo.notes:
                watch.say(f"{photo.path}: {note}")
        fill.run(items)
        for photo in photos:
            try:
                cost = paste_photo(folder, photo, None if picking else wanted, source)
            except InputError as error:
                fill.failed(photo.path, error)
                continue
            if cost is not None:
                watch.say(
                    f"{photo.path}: pasted back; that costs {cost:.1f} grey levels (RMS), the candidates themselves are untouched"
                )
    return tally
