"""Methods side by side: the same inputs, the same seeds, one process, everything measured on the saved files."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from preimage.candidates import package_version
from preimage.collection import Collection
from preimage.degrade.linear import OPERATORS
from preimage.device import resolve_device
from preimage.errors import InputError, MethodError, OperatorError, OutputError
from preimage.explore import Progress, Tally, upsample_folder
from preimage.files import plain_name, read_jsonl, read_yaml, save_png, to_yaml, write_text_atomic
from preimage.image import as_picture, open_image, read_image, to_uint8
from preimage.invert.method import Method
from preimage.invert.problem import find_degradation
from preimage.invert.registry import list_methods, load, method_class
from preimage.measure.cost import count_flops, forward_flops, measure_cost
from preimage.measure.evaluate import evaluate_folder, reading_notes
from preimage.measure.judges import JUDGES, is_partial
from preimage.measure.published import published_for
from preimage.measure.report import MethodReport, Report
from preimage.measure.suite import Suite, build_suite
from preimage.processes import remove_litter
from preimage.results import is_whole
from preimage.seeds import parse_seeds
from preimage.weights import default_prior, default_upsampler, training_record

Spec = tuple[str, str, str, str]
"""Name, prior of its own, preset and told downscaling of a method."""


def bench(
    methods: Sequence[str],
    data: str | Path,
    output: str | Path,
    *,
    scale: float = 8.0,
    resolution: int | None = None,
    seeds: str | int | Sequence[int] = "0-9",
    count: int | None = 64,
    shuffle: int = 0,
    prior: str | None = None,
    degradation: str = "bicubic",
    metrics: Sequence[str] | None = None,
    weights: str | Path | None = None,
    niqe_model: str | Path | None = None,
    download: bool = False,
    device: str = "auto",
    precision: str = "auto",
    batch: int | str = "auto",
    flops: bool = True,
    command: str = "",
    progress: Progress | None = None,
) -> Report:
    """Run methods on small versions of real faces and judge what they imagine.

    The truth is the face at one size, the input is the truth downscaled: so the truth itself is a perfect answer. Methods
    that make larger pictures are reduced to that size by Lanczos, as the truth is, and judged there; what they are asked is
    then a little harder, for the small picture was made of the truth at the compared size.
    `output` holds `reference/`, `inputs/` and a folder of results per method, which the same call completes after a stop.

    Args:
        methods: names of `list_methods()`, each with its own prior or network, a preset and the downscaling that it is told,
            where wanted: "pulse", "pulse:paper", "pulse@bicubic", "posterior=my.safetensors", "pulse=faces64:paper@bicubic".
            It takes `prior` and is told `degradation` otherwise.
        data: folder or zip archive of aligned faces, at least as large as the prior's pictures.
        output: folder; created.
        scale: of the downscaling; need not be whole.
        resolution: side of the truth, at which all are compared; None takes that of the smallest method.
        seeds: which candidates.
        count: how many faces, the first of a fixed shuffle; None takes all.
        shuffle: seed of that shuffle.
        prior: as for `preimage.load`.
        degradation: linear, or a learned one by name or path. Methods that answer to linear ones only
            take a learned one for bicubic.
        metrics, weights, niqe_model, download: see `preimage.measure.suite.build_suite`.
        device, precision, batch: as for `preimage.upsample`.
        flops: count the operations of one candidate, by one more run of it.
        command: what the user typed, for the report.
        progress: who watches; None: nobody.

    Raises:
        PreimageError: settings that cannot work, a folder that holds another benchmark.
    """
    suite = build_suite(metrics, weights, niqe_model, download)
    folder, wanted = Path(output), parse_seeds(seeds)
    if not (math.isfinite(scale) and scale > 1) or (count is not None and count < 1):
        raise OperatorError(f"scale ({scale:g}) must be a number above 1, and the count of faces ({count}) at least 1.")
    specs = [_parse(text) for text in methods]
    if not specs:
        raise MethodError("bench: name one method or more.")
    side = _compared_at(resolution, specs, prior, device)
    with Collection(data) as collection:
        names = collection.sample(count, shuffle)
        settings = {
            "data": collection.path.name,
            "pictures": len(names),
            "shuffle": shuffle,
            "scale": scale,
            "resolution": side,
            "degradation": degradation,
        }
        _prepare(folder, collection, names, side, scale, degradation, settings)
        report = Report(
            f"{', '.join(methods)} on {len(names)} faces of {collection.path.name}",
            command,
            _about(collection, names, wanted, side, scale, degradation, specs, prior, shuffle),
            published=published_for([name for name, *_ in specs]),
        )
        with Collection(folder / "reference") as reference:
            for name, own, preset, told in specs:
                label = name + bool(own) * f"={_short(own, specs)}" + (preset != "default") * f":{preset}"
                label += bool(told) * f"@{Path(told).stem}"
                target = folder / re.sub("[=:@]", "-", label)
                options: dict[str, Any] = {
                    "method": name, **_networks(name, own or _shared(name, specs, prior, side, device)), "preset": preset,
                    "device": device, "precision": precision, "batch": batch,
                }  # fmt: skip
                loaded = load(**options)
                assumed, made, whole = (
                    told or _assumed(loaded, degradation, report),
                    loaded.resolution_for(round(side / scale)),
                    target,
                )
                if told and told != degradation:
                    report.notes.append(
                        f"{label} was told {told}, the inputs were made by {degradation}; what it claims holds for the former."
                    )
                cost = measure_cost(
                    partial(_run, folder, target, wanted, assumed, options, progress), resolve_device(device)
                )
                if made > side:
                    target = _reduced(whole, side)
                    report.notes.append(
                        f"{label} makes pictures of {made} px, reduced to {side} to be compared; whether its files are exact is "
                        "said of them as they are."
                    )
                method = _judged(report, target, reference, collection, suite, label, folder / "statistics")
                if made > side:
                    lines = read_jsonl(whole / "summary.jsonl")
                    method.cost["byte-exact (own size)"] = sum(line.get("exact") is True for line in lines) / max(
                        1, len(lines)
                    )
                    if len(specs) > 1:  # what is said of the others stays
                        report.missing.pop("lr-psnr", None)
                method.problems = [*cost.value.problems, *method.problems]
                if cost.value.written and not math.isnan(cost.peak_bytes):
                    method.cost["peak memory (GiB)"] = cost.peak_bytes / 2**30
                if flops:
                    method.cost.update(_operations(folder, options, wanted[0], assumed))
    for network in dict.fromkeys(_searched(name, own or prior) for name, own, *_ in specs):
        if network is not None:
            report.notes += _flattered(network, suite)
    report.missing = {**suite.missing, **report.missing}
    report.notes += reading_notes(report.columns, len(names))
    return report


def _parse(text: str) -> Spec:
    """Name, prior, preset and told downscaling ("" for the benchmark's) of `NAME=PRIOR:PRESET@OPERATOR`.

    A prior may hold colons and at signs itself (`hf-hub:owner/repo`, `my_prior:Class`): what follows its last ones counts as
    preset or downscaling where it is one.
    """
    name = re.split("[=:@]", text, maxsplit=1)[0]
    if name not in list_methods():
        raise MethodError(f"method {name!r} is unknown; there are {', '.join(list_methods())}.")
    rest, told, preset = text[len(name) :], "", ""
    before, _, after = rest.rpartition("@")
    if after != rest and (not rest.startswith("=") or after in OPERATORS or Path(after).is_file()):
        rest, told = before, after
    before, _, after = rest.rpartition(":")
    if after != rest and (not rest.startswith("=") or after in ("default", "paper")):
        rest, preset = before, after
    if told:
        find_degradation(told)
    return name, rest.removeprefix("="), preset or "default", told


def _short(own: str, specs: Sequence[Spec]) -> str:
    """The name of a file, with that of its folder where several share it: every run exports the same name."""
    alike = {other for _, other, *_ in specs if other and Path(other).stem == Path(own).stem}
    return Path(own).stem if len(alike) == 1 else f"{Path(own).parent.name}-{Path(own).stem}"


def _networks(name: str, given: str | None) -> dict[str, str | None]:
    """A network that is named for a method, as the argument that the method takes it by."""
    taken = method_class(name).capabilities
    return {"weights": given} if taken.weights and not taken.prior else {"prior": given} if taken.prior else {}


def _made_by(name: str, own: str, prior: str | None, device: str) -> int:
    """Side of the pictures of a method, with a network of its own or, where it searches one, the shared prior."""
    taken = method_class(name).capabilities
    return load(name, device=device, **_networks(name, own or (prior if taken.prior else None))).resolution


def _shared(name: str, specs: Sequence[Spec], prior: str | None, side: int, device: str) -> str | None:
    """The network of a method that names none of its own; bicubic takes its size from one that is compared."""
    if not method_class(name).capabilities.prior:
        return None
    if name != "bicubic" or prior is not None:
        return prior
    for other, own, *_ in specs:
        if other != "bicubic" and _made_by(other, own, prior, device) == side:
            return own or (default_upsampler() if method_class(other).capabilities.weights else prior)
    return prior


def _assumed(method: Method, degradation: str, report: Report) -> str:
    """The degradation that a method is told: bicubic where it cannot invert that of the benchmark."""
    if find_degradation(degradation).kind in method.capabilities.degradations:
        return degradation
    report.notes.append(
        f"{method.name} cannot invert {degradation}: it was told bicubic, and what it claims holds for that."
    )
    return "bicubic"


def _prepare(
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
        seed = int.from_bytes(hashlib.blake2b(f"0/{stem}".encode(), digest_size=4).digest(), "big")
        small = made.photograph(truth, made.draw([seed]))[0]
        if small.shape[-1] != size:
            raise OperatorError(
                f"{made.name} makes {small.shape[-1]} pixels; give the scale {side / small.shape[-1]:g}."
            )
        return small

    return shrink


def _compared_at(wanted: int | None, specs: Sequence[Spec], prior: str | None, device: str) -> int:
    """Side at which all are compared: none of them makes smaller pictures. Bicubic makes what the others make."""
    asked = [s for s in specs if s[0] != "bicubic" or s[1]] or specs
    made = {f"{name} {own}".strip(): _made_by(name, own, prior, device) for name, own, *_ in asked}
    smallest = min(made.values())
    if wanted is None:
        return smallest
    if not 1 <= wanted <= smallest:
        name = min(made, key=lambda method: made[method])
        raise MethodError(f"resolution ({wanted}): {name} makes {made[name]} pixels; compare at that or fewer.")
    return wanted


def _reduced(target: Path, side: int) -> Path:
    """A folder beside one of results, with its candidates at another size; what is there already is kept."""
    smaller = target.with_name(f"{target.name}-at{side}")
    for path in sorted(target.glob("*/seed*.png")):
        out = smaller / path.parent.name / path.name
        if not is_whole(out, side):
            out.parent.mkdir(parents=True, exist_ok=True)
            with open_image(path) as image:
                small = image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
            save_png(out, as_picture(small).pixels)
    for name in ("run.yaml", "summary.jsonl"):  # settings and time are those of the pictures as they were made
        write_text_atomic(smaller / name, (target / name).read_text())
    return smaller


def _run(
    folder: Path,
    target: Path,
    seeds: Sequence[int],
    degradation: str,
    options: Mapping[str, Any],
    progress: Progress | None,
) -> Tally:
    return upsample_folder(
        [folder / "inputs"], target, seeds=seeds, degradation=degradation, progress=progress, **options
    )


def _judged(
    report: Report,
    target: Path,
    reference: Collection,
    real: Collection,
    suite: Suite,
    label: str,
    statistics: Path,
) -> MethodReport:
    found = evaluate_folder(target, reference, suite, name=label, real=real, statistics=statistics)
    report.methods.append(found.method)
    report.columns |= {key: column for key, column in found.columns.items() if key not in report.columns}
    report.missing |= found.missing
    report.notes += [note for note in found.notes if note not in report.notes]
    return found.method


def _operations(folder: Path, options: Mapping[str, Any], seed: int, degradation: str) -> dict[str, float]:
    """Operations of one candidate of the first input, and how many passes of the generator that is."""
    lr = read_image(sorted((folder / "inputs").glob("*.png"))[0]).pixels
    method = load(**options)
    out = {"flops": count_flops(lambda: list(method.upsample(lr, [seed], degradation)))}
    prior = getattr(method, "prior", None)
    if prior is not None and out["flops"]:
        out["generator forwards"] = out["flops"] / forward_flops(prior)
    return out


def _searched(name: str, prior: str | None) -> str | None:
    """The network behind a method's pictures; None for bicubic."""
    if name == "bicubic":
        return None
    return prior or (default_upsampler() if method_class(name).capabilities.weights else default_prior())


def _flattered(prior: str, suite: Suite) -> list[str]:
    """The judges that a network was trained to please."""
    trained = training_record(prior)
    partial = [
        f"fd-{name}" for name, judge in JUDGES.items() if f"fd-{name}" in suite.sets and is_partial(judge, trained)
    ]
    if not partial:
        return []
    return [
        f"{', '.join(partial)}: {Path(prior).stem} was trained on features of this kind; they flatter what it makes."
    ]


def _about(
    collection: Collection,
    names: Sequence[str],
    seeds: Sequence[int],
    side: int,
    scale: float,
    degradation: str,
    specs: Sequence[Spec],
    prior: str | None,
    shuffle: int,
) -> dict[str, Any]:
    return {
        "data": f"{collection.path.name}, {len(names)} of {len(collection)} pictures, shuffle seed {shuffle}",
        "inputs": f"{round(side / scale)}x{round(side / scale)}, {degradation} from {side}x{side}",
        "seeds": f"{min(seeds)} to {max(seeds)}, {len(seeds)} per input",
        "prior": ", ".join(dict.fromkeys(filter(None, (_searched(name, own or prior) for name, own, *_ in specs))))
        or "none",
        "machine": f"{os.cpu_count()} CPU cores" + (", CUDA" if torch.cuda.is_available() else ""),
        "versions": f"preimage {package_version()}, torch {torch.__version__}, Python {sys.version.split()[0]}",
    }
