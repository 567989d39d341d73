"""Commands that measure: evaluate, bench."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from preimage.cli.bar import Bar
from preimage.cli.options import failures, measure_options


def evaluate_options(p: ArgumentParser, argv: Sequence[str]) -> None:
    p.add_argument("results", help="a folder of candidates: `preimage upsample` filled it, or another tool did")
    p.add_argument("--reference", default=None, help="folder or zip archive of the true pictures, by the same names")
    p.add_argument("--lr", default=None, help="folder of the low-resolution pictures, where RESULTS holds none")
    p.add_argument("--scale", type=float | None, default=None, help="make them from the references by bicubic instead")
    p.add_argument("--real", default=None, help="real pictures for distances between sets; default: the references")
    p.add_argument("--name", default=None, help="of the method, in the report")
    measure_options(p)
    p.add_argument("-o", "--output", default=None, help="folder for report.json, .md and .html; default: RESULTS")


def evaluate(options: Namespace) -> int:
    """Judge a folder of candidates; print the table and write the report."""
    from preimage.measure.evaluate import evaluate

    given = options.as_dict()
    results, output = given.pop("results"), given.pop("output")
    return _report(lambda: evaluate(results, command=_command(), **given), output or results)


def bench_options(p: ArgumentParser, argv: Sequence[str]) -> None:
    p.add_argument(
        "--methods",
        default="bicubic,posterior",
        help="names, with a prior or network of its own, a preset and the degradation it is told where wanted: "
        "bicubic,pulse:paper,pulse@area,posterior=my.safetensors",
    )
    p.add_argument(
        "--data", required=True, help="folder or zip archive of aligned faces, as large as the prior's or larger"
    )
    p.add_argument("-o", "--output", default="out/bench", help="folder for inputs, candidates and reports")
    p.add_argument("--scale", type=float, default=8.0, help="of the downscaling from the compared size")
    p.add_argument(
        "--resolution",
        type=int | None,
        default=None,
        help="side at which all are compared; larger pictures are reduced to it; default: that of the smallest method",
    )
    p.add_argument("--seeds", default="0-9", help="which candidates, such as 0-7,12")
    p.add_argument("-n", "--count", type=int, default=64, help="how many faces, the first of a fixed shuffle; 0: all")
    p.add_argument("--shuffle", type=int, default=0, help="seed of that shuffle")
    p.add_argument("--prior", default=None, help="name, path or hub id; default: the package's default prior")
    p.add_argument("--degradation", default="bicubic", help="what makes the inputs, linear or learned, by name or path")
    measure_options(p)
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    p.add_argument("--precision", default="auto", help="auto, fp32, bf16, fp16")
    p.add_argument("--batch", default="auto", help="candidates that run together; auto: as many as fit into memory")
    p.add_argument(
        "--flops", type=bool, default=True, help="count the operations of one candidate, by one more run of it"
    )


def bench(options: Namespace) -> int:
    """Run methods side by side on small versions of real faces; print the table and write the report."""
    from preimage.measure.bench import bench

    given = options.as_dict()
    output, methods = given.pop("output"), given.pop("methods").split(",")
    given["count"] = given["count"] or None
    with Bar() as bar:
        return _report(lambda: bench(methods, output=output, command=_command(), progress=bar, **given), output)


def _report(measure: Callable[[], Any], output: str) -> int:
    from preimage.measure.render.page import write_report
    from preimage.measure.render.writers import to_text

    report = measure()  # after the imports: a library that is missing is missed at once, not when all is measured
    print(to_text(report, width=shutil.get_terminal_size((160, 24)).columns))
    for path in write_report(report, output).values():
        print(path)
    return failures([problem for method in report.methods for problem in method.problems])


def _command() -> str:
    return shlex.join(["preimage", *sys.argv[1:]])
