"""The command line: one function per command, wiring only. The same names as in Python."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from jsonargparse import ActionYesNo, ArgumentParser, Namespace

from preimage import __version__
from preimage.errors import PreimageError

EXTRAS = {"torchmetrics": "measure", "accelerate": "train", "onnxruntime": "faces"}
"""Packages that only some commands need, and the extra that installs them."""
INTERRUPTED = "stopped. What was written stays; the same command goes on from here."


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 when all went well, 1 if anything failed, 130 if interrupted. A wrong command line exits with 2.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    command = next((a for a in argv if not a.startswith("-")), "")
    parser = ArgumentParser(prog="preimage", description="One blurry face in, many exact candidates out.")
    parser.add_argument("--version", action="version", version=f"preimage {__version__}")
    commands = parser.add_subcommands(required=True, dest="command")
    try:
        for name, (summary, options, _) in COMMANDS.items():
            sub = ArgumentParser(description=summary)
            if name == command:  # the others' options may need imports that this one does not
                options(sub, argv[argv.index(command) + 1 :])
            commands.add_subcommand(name, sub, help=summary)
        # `--method pulse` names the method and `--method.steps` sets a control: to the parser, keys of one group
        config = parser.parse_args([re.sub(r"^--method(?==|$)", "--method.name", a) for a in argv])
        return COMMANDS[config.command][2](config[config.command])
    except PreimageError as error:
        print(f"preimage: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        print(
            f'preimage: `{command}` needs {package}, which is not installed; run pip install "preimage[{EXTRAS[package]}]".',
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(f"\npreimage: {INTERRUPTED}", file=sys.stderr)
        return 130


def _given(argv: Sequence[str], option: str, default: str) -> str:
    """Value of an option, before the command line can be parsed as a whole."""
    for i, a in enumerate(argv):
        if a == option and i + 1 < len(argv):
            return argv[i + 1]
        if a.startswith(f"{option}="):
            return a.split("=", 1)[1]
    return default


def _operator_options(p: ArgumentParser) -> None:
    p.add_argument("--operator", default="bicubic", help="the downscaling: bicubic, bilinear, lanczos, area, gaussian")
    _border_option(p)


def _border_option(p: ArgumentParser) -> None:
    p.add_argument(
        "--border", default="renormalise", help="its edges: renormalise (Pillow), reflect, symmetric (MATLAB)"
    )


def _upsample_options(p: ArgumentParser, argv: Sequence[str]) -> None:
    p.add_argument("inputs", nargs="+", help="files, folders or globs of small face pictures")
    p.add_argument("-o", "--output", required=True, help="folder for the results")
    p.add_argument("--method.name", default="pulse", help="written --method NAME: pulse, sr-nam or bicubic")
    p.add_argument("--preset", default="default", help="settings of the method: default or paper")
    p.add_argument(
        "--prior", type=str | None, default=None, help="name, path or hf-hub:owner/repo (preimage models list)"
    )
    p.add_argument("--scale", type=float | None, default=None, help="checked against the prior's size where given")
    p.add_argument("--seeds", default="0-7", help="which candidates, such as 0-7,12")
    p.add_argument("-n", "--count", type=int | None, default=None, help="the first so many seeds, instead of --seeds")
    p.add_argument(
        "--operator",
        type=str | None,
        default=None,
        help="the downscaling: bicubic, bilinear, lanczos, area, gaussian, or a learned one by name or path, such as "
        "degradation-gan-64to16; default: the method's own (bicubic; sr-nam: degradation-gan-64to16)",
    )
    _border_option(p)
    p.add_argument("--variants", type=int, default=0, help="of each candidate, so many with resampled fine noise")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    p.add_argument("--precision", default="auto", help="auto, fp32, bf16, fp16")
    p.add_argument("--batch", type=int, default=8, help="candidates that run together")
    p.add_argument("--save-latents", action="store_true", help="keep the latents as safetensors beside the pictures")
    p.add_argument("--overwrite", action="store_true", help="replace results of other settings")
    presets = _presets(_given(argv, "--method", "pulse"))
    if presets:
        from preimage.invert.settings import SearchSettings

        p.add_class_arguments(SearchSettings, "method", as_group=False)
        preset = presets.get(_given(argv, "--preset", "default"), presets["default"])
        p.set_defaults({f"method.{key}": value for key, value in asdict(preset).items()})


def _presets(method: str) -> Mapping[str, Any]:
    """Presets of a method that searches; none for the others."""
    if method == "pulse":
        from preimage.invert.pulse import PRESETS as pulse

        return pulse
    if method == "sr-nam":
        from preimage.invert.nam import PRESETS as nam

        return nam
    return {}


def upsample(options: Namespace) -> int:
    """Candidates for every input; a bad input is reported and skipped."""
    from preimage.explore import upsample_folder

    given = options.as_dict()
    controls: dict[str, Any] = given.pop("method")
    count, seeds, output = given.pop("count"), given.pop("seeds"), given.pop("output")
    if count is not None:
        seeds = range(count)
    tally = upsample_folder(
        given.pop("inputs"),
        output,
        method=controls.pop("name"),
        seeds=seeds,
        latents=given.pop("save_latents"),
        controls=controls,
        **given,
    )
    about = f"{tally.exact} of them exact"
    if tally.learned:
        about = (
            f"mean L1 through the learned degradation {tally.l1 / tally.learned:.2f} grey levels, none of them exact"
        )
    print(f"{tally.written} candidates written to {output}, {about}; {tally.kept} were there before.")
    return _failures(tally.problems)


def _degrade_options(p: ArgumentParser, argv: Sequence[str]) -> None:
    p.add_argument("inputs", nargs="+", help="files, folders or globs of pictures")
    p.add_argument("-o", "--output", required=True, help="folder for the results")
    p.add_argument("--scale", type=float | None, default=None, help="how many times smaller; need not be whole")
    p.add_argument(
        "--size", type=int | None, default=None, help="longer side of the result in pixels, instead of a scale"
    )
    _operator_options(p)
    p.add_argument("--corrupt", type=list[str], default=[], help="such as [gaussian_noise:25,jpeg:50], in this order")
    p.add_argument(
        "--model", type=str | None, default=None, help="a learned degradation instead: degradation-gan, path or hub id"
    )
    p.add_argument("--variants", type=int, default=0, help="so many different versions of each, NAME_seed0000.png")
    p.add_argument("--seed", type=int, default=0, help="of the corruptions and of the model's noise")
    p.add_argument("--overwrite", action="store_true", help="replace files that exist")


def degrade(options: Namespace) -> int:
    """Small, and if wanted damaged, versions of every input."""
    from preimage.explore import degrade_folder

    given = options.as_dict()
    output = given.pop("output")
    written, problems = degrade_folder(given.pop("inputs"), output, **given)
    print(f"{written} pictures written to {output}.")
    return _failures(problems)


def _verify_options(p: ArgumentParser, argv: Sequence[str]) -> None:
    p.add_argument("results", help="a folder that `preimage upsample -o` filled")


def verify(options: Namespace) -> int:
    """Shrink every saved candidate with Pillow and compare it with its input, byte for byte."""
    from preimage.verify import verify_folder

    found = verify_folder(options.results)
    for problem in found.problems:
        print(f"preimage: {problem}", file=sys.stderr)
    if found.exact or not found.learned:
        count = found.exact + len(found.problems)
        print(f"{found.exact} of {count} candidates shrink to their input byte for byte.")
    if found.learned:
        print(
            f"{found.learned} candidates answer to a learned degradation, so there is nothing to prove: degraded again they "
            f"differ from their input by {found.l1 / found.learned:.2f} grey levels (mean L1), as recorded."
        )
    return 1 if found.problems else 0


def _train_options(p: ArgumentParser, argv: Sequence[str]) -> None:
    p.add_argument("recipe", help="a YAML file, such as recipes/prior-faces64.yaml; any of its keys can be overridden")
    p.add_argument("--resume", default="auto", help="auto: continue the run in `out`; never: insist on a new one")
    p.add_argument("--stop-after", type=float | None, default=None, help="seconds after which to save and stop")
    p.add_argument("--dry-run", action="store_true", help="print the recipe and the sizes of its networks, then stop")
    recipe = next((a for a in argv if a.endswith((".yaml", ".yml"))), None)
    if recipe is not None:
        from preimage.train.recipes import read_recipe, recipe_parser

        trainer, values = read_recipe(recipe)
        recipe_parser(trainer, p)
        p.set_defaults(_flat(values))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def train(options: Namespace) -> int:
    """Train a network by its recipe, or go on where the run stopped."""
    from preimage.train.recipes import build_recipe, read_recipe

    given = options.as_dict()
    path, resume, stop_after, dry = (given.pop(k) for k in ("recipe", "resume", "stop_after", "dry_run"))
    trainer, _ = read_recipe(path)
    recipe = build_recipe(path, trainer, given)
    if dry:
        import yaml

        print(yaml.safe_dump(asdict(recipe), sort_keys=False) + trainer.describe(recipe))
        return 0
    print(f"exported {trainer.train(recipe, resume=resume, stop_after=stop_after)}")
    return 0


def _models_options(p: ArgumentParser, argv: Sequence[str]) -> None:
    p.add_argument(
        "action",
        choices=["list", "show", "convert"],
        help="list the embedded weights, show one file or entry, or convert a published network",
    )
    p.add_argument(
        "file", nargs="?", default="", help="show: a name or safetensors file; convert: a .pkl, .pt or .pth file"
    )
    p.add_argument(
        "-o",
        "--output",
        type=str | None,
        default=None,
        help="convert: the safetensors file; default: for a network that measures, where it is looked for; for a prior, "
        "beside the file",
    )
    p.add_argument("--licence", type=str | None, default=None, help="convert: of a prior's weights, as you confirm it")
    p.add_argument("--name", type=str | None, default=None, help="convert: of a prior, for provenance")
    p.add_argument(
        "--mapping", type=str | None, default=None, help="convert: the second file of a StyleGAN published as two"
    )
    p.add_argument(
        "--precision", choices=["fp16", "fp32"], default="fp16", help="convert: how a prior's numbers are stored"
    )


def models(options: Namespace) -> int:
    """What weights there are, and what they are."""
    from preimage.weights import describe_weights, weight_table

    if options.action == "show":
        print(describe_weights(options.file))
        return 0
    if options.action == "convert":
        print(_convert(options))
        return 0
    for entry in weight_table().values():
        print(f"{entry.name:22} {entry.kind:11} {entry.licence:13} {entry.description}")
    return 0


def _convert(options: Namespace) -> str:
    from preimage.convert import UNCONFIRMED, convert_prior
    from preimage.measure.convert import convert, measures
    from preimage.pickles import read_checkpoint
    from preimage.weights import describe_weights

    checkpoint = read_checkpoint(options.file)
    if options.mapping is None and measures(checkpoint):
        return str(convert(checkpoint.path, options.output, checkpoint))
    out = options.output or checkpoint.path.with_suffix(".safetensors")
    written = convert_prior(
        checkpoint.path,
        out,
        options.name,
        options.licence or UNCONFIRMED,
        checkpoint,
        half=options.precision == "fp16",
        mapping=options.mapping,
    )
    return describe_weights(str(written))


def _sample_options(p: ArgumentParser, argv: Sequence[str]) -> None:
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
    p.add_argument("--batch", type=int, default=8, help="pictures that are made together")
    p.add_argument("--sheet", action=ActionYesNo(no_prefix="no-"), default=True, help="draw a contact sheet")


def sample(options: Namespace) -> int:
    """What a prior imagines without any photo."""
    from preimage.sample import sample_prior

    written = sample_prior(**options.as_dict())
    print(f"{len(written)} pictures written, the last of them {written[-1]}.")
    return 0


def _measure_options(p: ArgumentParser) -> None:
    p.add_argument(
        "--metrics", type=list[str] | None, default=None, help="such as [psnr-rgb,lpips-alex,fid]; default: all at hand"
    )
    p.add_argument("--weights", default=None, help="folder of feature networks; default $PREIMAGE_WEIGHTS or the cache")
    p.add_argument("--download", action="store_true", help="fetch networks that the hub has, such as VGG-16")
    p.add_argument("--niqe-model", default=None, help="one more NIQE model (.npz), fitted on other pictures")


def _evaluate_options(p: ArgumentParser, argv: Sequence[str]) -> None:
    p.add_argument("results", help="a folder of candidates: `preimage upsample` filled it, or another tool did")
    p.add_argument("--reference", default=None, help="folder or zip archive of the true pictures, by the same names")
    p.add_argument("--lr", default=None, help="folder of the low-resolution pictures, where RESULTS holds none")
    p.add_argument("--scale", type=float | None, default=None, help="make them from the references by bicubic instead")
    p.add_argument("--real", default=None, help="real pictures for distances between sets; default: the references")
    p.add_argument("--name", default=None, help="of the method, in the report")
    _measure_options(p)
    p.add_argument("-o", "--output", default=None, help="folder for report.json, .md and .html; default: RESULTS")


def evaluate(options: Namespace) -> int:
    """Judge a folder of candidates; print the table and write the report."""
    from preimage.measure.evaluate import evaluate

    given = options.as_dict()
    results, output = given.pop("results"), given.pop("output")
    return _report(evaluate(results, command=_command(), **given), output or results)


def _bench_options(p: ArgumentParser, argv: Sequence[str]) -> None:
    p.add_argument(
        "--methods",
        default="bicubic,pulse",
        help="names, with a preset and the downscaling it is told where wanted: bicubic,pulse:paper,pulse@area,sr-nam",
    )
    p.add_argument("--data", required=True, help="folder or zip archive of aligned faces, as large as the prior's")
    p.add_argument("-o", "--output", default="out/bench", help="folder for inputs, candidates and reports")
    p.add_argument("--scale", type=float, default=8.0, help="of the downscaling from the prior's size")
    p.add_argument("--seeds", default="0-9", help="which candidates, such as 0-7,12")
    p.add_argument("-n", "--count", type=int, default=64, help="how many faces, the first of a fixed shuffle; 0: all")
    p.add_argument("--shuffle", type=int, default=0, help="seed of that shuffle")
    p.add_argument("--prior", default=None, help="name, path or hub id; default: the package's default prior")
    p.add_argument("--operator", default="bicubic", help="the downscaling, linear or learned, by name or path")
    _measure_options(p)
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    p.add_argument("--precision", default="auto", help="auto, fp32, bf16, fp16")
    p.add_argument("--batch", type=int, default=8, help="candidates that run together")
    p.add_argument(
        "--flops", type=bool, default=True, help="count the operations of one candidate, by one more run of it"
    )


def bench(options: Namespace) -> int:
    """Run methods side by side on small versions of real faces; print the table and write the report."""
    from preimage.measure.bench import bench

    given = options.as_dict()
    output, methods = given.pop("output"), given.pop("methods").split(",")
    given["count"] = given["count"] or None
    return _report(bench(methods, given.pop("data"), output, command=_command(), **given), output)


def _report(report: Any, output: str) -> int:
    from preimage.measure.render.page import write_report
    from preimage.measure.render.writers import to_text

    print(to_text(report, width=shutil.get_terminal_size((160, 24)).columns))
    for path in write_report(report, output).values():
        print(path)
    return _failures([problem for method in report.methods for problem in method.problems])


def _command() -> str:
    return shlex.join(["preimage", *sys.argv[1:]])


def _failures(problems: Sequence[str]) -> int:
    if problems:
        print(f"preimage: {len(problems)} input(s) failed; see above.", file=sys.stderr)
    return 1 if problems else 0


Options = Callable[[ArgumentParser, Sequence[str]], None]
COMMANDS: dict[str, tuple[str, Options, Callable[[Namespace], int]]] = {
    "upsample": ("Imagine many sharp faces behind each small picture.", _upsample_options, upsample),
    "degrade": ("Make small, and if wanted damaged, pictures of sharp ones.", _degrade_options, degrade),
    "verify": ("Prove a folder of results from its files alone.", _verify_options, verify),
    "evaluate": ("Say how good a folder of candidates is.", _evaluate_options, evaluate),
    "bench": ("Run methods side by side and measure them.", _bench_options, bench),
    "train": ("Train a network by its recipe, or continue the run.", _train_options, train),
    "sample": ("Draw what a prior imagines without any photo.", _sample_options, sample),
    "models": ("List or show the embedded weights, convert published networks.", _models_options, models),
}

if __name__ == "__main__":
    sys.exit(main())
