"""Does a run in two processes learn what a run in one does, and what does `kill -9` cost? Two Markdown tables.

    python benchmarks/processes.py --images 24000 --seeds 0 1 2

Trains a tiny StyleGAN2 (16x16, residual discriminator, R1, path lengths, ADA) on the CPU, per seed once in one process and once in
two with the same pictures per step. Then kills a run in the middle without warning and gives the same command again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from preimage.measure.distances import FeatureScale, frechet_distance
from preimage.train.data import load_pictures, to_tensor
from preimage.weights import load_prior

RECIPE: dict[str, Any] = {
    "network": "stylegan2",
    "name": "tiny",
    "generator": {
        "resolution": 16, "channel_base": 512, "channel_max": 32, "z_dim": 32, "w_dim": 32, "mapping_layers": 2,
    },
    "discriminator": {"channel_base": 512, "channel_max": 32, "r1_gamma": 0.1, "r1_every": 8},
    "batch": 32,
    "path_length": 2.0,
    "augment": ["ada-blit", "ada-colour"],
    "augment_probability": 0.0,
    "ada_target": 0.6,
    "ema_half_life": 2000,
    "log": 320,
}  # fmt: skip
ENVIRONMENT = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}


def command(recipe: Path, processes: int) -> list[str]:
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    )
    return [sys.executable, *launcher, "-m", "preimage.cli", "train", str(recipe)]


def prepare(folder: Path, data: list[str], **settings: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE | {"out": str(folder / "run"), "data": data} | settings))
    return path


def lines(recipe: Path) -> list[dict[str, float]]:
    stats = recipe.parent / "run" / "stats.jsonl"
    return [json.loads(line) for line in stats.read_text().splitlines()] if stats.is_file() else []


def run(recipe: Path, processes: int) -> None:
    done = subprocess.run(command(recipe, processes), env=os.environ | ENVIRONMENT, stdout=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"{recipe}: the run failed with status {done.returncode}")


def pixels(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures (n, 3, 16, 16) as 48 features: their 4x4 averages."""
    return torch.nn.functional.avg_pool2d(pictures, 4).flatten(1).double()


def distance(recipe: Path, real: torch.Tensor) -> float:
    """Fréchet distance of 2,000 samples to the training pictures in 4x4 pixels, in units of each pixel's spread."""
    prior: Any = load_prior(recipe.parent / "run" / "prior.safetensors")
    samples = torch.cat([prior.sample(range(i, i + 100)) for i in range(0, 2000, 100)])
    return float(frechet_distance(pixels(samples), real, FeatureScale.of(real)))


def equality(args: argparse.Namespace, out: Path) -> None:
    pictures = load_pictures(args.data, 16, progress=False)
    real = pixels(to_tensor(pictures[:].copy()))
    keys = ("loss_d", "loss_g", "sign", "augment", "path_length")
    rows: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for processes, found in rows.items():
        for seed in args.seeds:
            recipe = prepare(
                out / f"p{processes}s{seed}", args.data, images=args.images, snapshot=args.images, seed=seed
            )
            run(recipe, processes)
            late = [line for line in lines(recipe) if line["images"] > args.images // 2]
            values = {k: statistics.fmean(line[k] for line in late if k in line) for k in keys}
            found.append({"images": lines(recipe)[-1]["images"], **values, "fd-pixels": distance(recipe, real)})
    print(f"| processes | pictures seen | {' | '.join(keys)} | fd-pixels |\n|" + "---|" * (len(keys) + 3))
    for processes, found in rows.items():
        cells = []
        for key in (*keys, "fd-pixels"):
            values = [run[key] for run in found]
            cells.append(f"{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}")
        seen = ", ".join(sorted({f"{run['images']:,.0f}" for run in found}))
        print(f"| {processes} | {seen} | {' | '.join(cells)} |")


def killing(args: argparse.Namespace, out: Path) -> None:
    recipe = prepare(out / "killed", args.data, images=args.images, snapshot=3200)
    process = subprocess.Popen(command(recipe, 1), env=os.environ | ENVIRONMENT, stdout=subprocess.DEVNULL)
    while process.poll() is None and not (lines(recipe) and lines(recipe)[-1]["images"] >= args.images // 2 + 960):
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = [int(line["images"]) for line in lines(recipe)]
    run(recipe, 1)
    after = [int(line["images"]) for line in lines(recipe)][len(before) :]
    print("\n| last line before kill -9 | first line after it | shown again | interval of snapshots | at the end |")
    print("|---|---|---|---|---|")
    print(f"| {before[-1]:,} | {after[0]:,} | {before[-1] - after[0] + 320:,} | 3,200 | {after[-1]:,} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["../shared/data/faces256-train-meb.zip"])
    parser.add_argument("--images", type=int, default=24_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("out/processes"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    equality(args, args.out)
    killing(args, args.out)


if __name__ == "__main__":
    main()
