"""Commands that make pictures or prove them: upsample, degrade, verify, sample."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from jsonargparse import ActionYesNo, ArgumentParser, Namespace

from preimage.cli.bar import Bar
from preimage.cli.options import border_option, failures, value_of
from preimage.errors import InputError
from preimage.invert.registry import DEFAULT

LINEAR = "bicubic, bilinear, lanczos, area, gaussian"


def upsample_options(p: ArgumentParser, argv: Sequence[str]) -> None:
    from preimage.invert.registry import list_methods, method_class

    chosen = method_class(value_of(argv, "--method", DEFAULT))
    takes = chosen.capabilities
    p.add_argument("inputs", nargs="+", help="files, folders or globs of small face pictures")
    p.add_argument("-o", "--output", required=True, help="folder for the results")
    p.add_argument(
        "--method.name",
        default=DEFAULT,
        help=f"written --method NAME: {', '.join(list_methods())}, or package.module:Class; --method NAME --help shows its settings",
    )
    p.add_argument("--preset", default="default", help=f"settings of the method: {', '.join(chosen.presets)}")
    p.add_argument(
        "--prior",
        type=str | None,
        default=None,
        help="of a search: name, path or hf-hub:owner/repo (preimage models list)",
    )
    p.add_argument("--weights", type=str | None, default=None, help="the method's own network, the same way")
    p.add_argument("--scale", type=float | None, default=None, help="checked against the prior's size where given")
    p.add_argument(
        "--reduce",
        type=int | None,
        default=None,
        help="side to which larger photos are brought first: a soft photo says no more than a smaller one, such as 16",
    )
    p.add_argument("--seeds", default="0-7", help="which candidates, such as 0-7,12")
    p.add_argument("-n", "--count", type=int | None, default=None, help="the first so many seeds, instead of --seeds")
    p.add_argument(
        "--pick",
        type=int | None,
        default=None,
        help="write only so many, those that differ most, and the share each stands for",
    )
    p.add_argument(
        "--of", type=int | None, default=None, help="with --pick: draw the first so many seeds, instead of --seeds"
    )
    p.add_argument(
        "--by", default="pixels", help="with --pick: what they differ in: pixels, identity, landmarks, or identity=FILE"
    )
    learned = ", or a learned one by name or path, such as degradation-gan" if "learned" in takes.degradations else ""
    p.add_argument(
        "--degradation",
        type=str | None,
        default=None,
        help=f"what made the picture: {LINEAR}{learned}; default: {takes.default_degradation}",
    )
    border_option(p)
    p.add_argument(
        "--variants", type=int, default=0, help="of each candidate, so many with its finest detail drawn anew"
    )
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    p.add_argument("--precision", default="auto", help="auto, fp32, bf16, fp16")
    p.add_argument("--batch", default="auto", help="candidates that run together; auto: as many as fit into memory")
    p.add_argument("--threads", default="auto", help="of torch; auto: as many as cores are free")
    p.add_argument("--save-latents", action="store_true", help="keep the latents as safetensors beside the pictures")
    p.add_argument(
        "--side-outputs", action="store_true", help="keep the prior's smaller pictures too, side32_seed0000.png"
    )
    p.add_argument(
        "--branches",
        type=str | None,
        default=None,
        help="learned branches of the prior, which draw these pictures: the file that a recipe of side outputs trains",
    )
    p.add_argument("--from", type=str | None, default=None, help="a file of such latents to go on from")
    p.add_argument("--overwrite", action="store_true", help="replace results of other settings")
    for given in takes.inputs:
        p.add_argument(f"--{given.name.replace('_', '-')}", type=str | None, default=None, help=given.help)
    preset = chosen.presets.get(value_of(argv, "--preset", "default"), chosen.presets["default"])
    if values := asdict(preset):
        p.add_class_arguments(type(preset), "method", as_group=False)
        p.set_defaults({f"method.{key}": value for key, value in values.items()})


def upsample(options: Namespace) -> int:
    """Candidates for every input; a bad input is reported and skipped."""
    from preimage.invert.registry import method_class
    from preimage.upsampling import upsample_folder

    given = options.as_dict()
    controls: dict[str, Any] = given.pop("method")
    name = controls.pop("name")
    controls |= {guide.name: given.pop(guide.name) for guide in method_class(name).capabilities.inputs}
    count, seeds, output = given.pop("count"), given.pop("seeds"), given.pop("output")
    of = given.pop("of")
    if of is not None and given["pick"] is None:
        raise InputError("--of says how many are drawn for --pick; give --pick too, or --count instead.")
    if (drawn := count if of is None else of) is not None:
        seeds = range(drawn)
    with Bar() as bar:
        tally = upsample_folder(
            given.pop("inputs"),
            output,
            method=name,
            seeds=seeds,
            latents=given.pop("save_latents"),
            at=given.pop("from"),
            controls=controls,
            progress=bar,
            **given,
        )
    about = f"{tally.exact} of them exact"
    if tally.learned:
        about = (
            f"mean L1 through the learned degradation {tally.l1 / tally.learned:.2f} grey levels, none of them exact"
        )
    elif tally.tolerated:
        about = f"{tally.within} of them within {tally.tolerance:g} grey levels of their input, as was chosen, so none is exact"
    print(f"{tally.written} candidates written to {output}, {about}; {tally.kept} were there before.")
    return failures(tally.problems)


def degrade_options(p: ArgumentParser, argv: Sequence[str]) -> None:
    p.add_argument("inputs", nargs="+", help="files, folders or globs of pictures")
    p.add_argument("-o", "--output", required=True, help="folder for the results")
    p.add_argument("--scale", type=float | None, default=None, help="how many times smaller; need not be whole")
    p.add_argument(
        "--size", type=int | None, default=None, help="longer side of the result in pixels, instead of a scale"
    )
    p.add_argument(
        "--degradation",
        default="bicubic",
        help=f"{LINEAR}, or a learned one (degradation-gan, style-vae, a path, a hub id), which makes pictures of its own size",
    )
    border_option(p)
    p.add_argument(
        "--style", type=str | None, default=None, help="a natively small photo whose style a style-vae takes over"
    )
    p.add_argument("--corrupt", type=list[str], default=[], help="such as [gaussian_noise:25,jpeg:50], in this order")
    p.add_argument("--variants", type=int, default=0, help="so many different versions of each, NAME_seed0000.png")
    p.add_argument("--seed", type=int, default=0, help="of the corruptions and of the degradation's noise")
    p.add_argument("--overwrite", action="store_true", help="replace files that exist")


def degrade(options: Namespace) -> int:
    """Small, and if wanted damaged, versions of every input."""
    from preimage.shrink import degrade_folder

    given = options.as_dict()
    output = given.pop("output")
    written, problems = degrade_folder(given.pop("inputs"), output, **given)
    print(f"{written} pictures written to {output}.")
    return failures(problems)


def verify_options(p: ArgumentParser, argv: Sequence[str]) -> None:
    p.add_argument("results", help="a folder that `preimage upsample -o` filled")


def verify(options: Namespace) -> int:
    """Shrink every saved candidate with Pillow and compare it with its input, byte for byte."""
    from preimage.verify import verify_folder

    found = verify_folder(options.results)
    for problem in found.problems:
        print(f"preimage: {problem}", file=sys.stderr)
    if found.exact or not (found.learned or found.within or found.tolerance):
        count = found.exact + len(found.problems)
        print(f"{found.exact} of {count} candidates shrink to their input byte for byte.")
    if found.tolerance:
        count = found.within + len(found.problems)
        print(
            f"{found.within} of {count} candidates keep to the tolerance in their files: shrunk, no value is further than "
            f"{found.tolerance:g} grey levels from their input."
        )
    if found.learned:
        print(
            f"{found.learned} candidates answer to a learned degradation, so there is nothing to prove: degraded again they "
            f"differ from their input by {found.l1 / found.learned:.2f} grey levels (mean L1), as recorded."
        )
    return 1 if found.problems else 0


def sample_options(p: ArgumentParser, argv: Sequence[str]) -> None:
    p.add_argument(
        "--prior", type=str | None, default=None, help="name, path, hf-hub:owner/repo or package.module:Class"
    )
    p.add_argument("--seeds", default="0-31", help="which pictures, such as 0-7,12")
    p.add_argument(
        "-o",
        "--output",
        required=True,
        help="folder for seed0000.png, … and sheet.png; or NAME.png for the sheet alone",
    )
    p.add_argument("--truncation", type=float, default=1.0, help="below 1: nearer to the average face, which 0 is")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    p.add_argument("--batch", default="auto", help="pictures that are made together; auto: as many as fit into memory")
    p.add_argument("--sheet", action=ActionYesNo(no_prefix="no-"), default=True, help="draw a contact sheet")


def sample(options: Namespace) -> int:
    """What a prior imagines without any photo."""
    from preimage.sample import sample_prior

    written = sample_prior(**options.as_dict())
    print(f"{len(written)} pictures written, the last of them {written[-1]}.")
    return 0
