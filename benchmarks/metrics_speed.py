"""How fast each metric is: pictures a second and memory, on faces of one size. Prints a Markdown table.

    python benchmarks/metrics_speed.py --data ../shared/data/faces256-val.zip --size 128 --weights ../shared/weights

Metrics that compare look at a picture and a blurred version of it. A network whose file is missing is timed with random
weights where `--random` is given: time does not depend on them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from preimage.collection import Collection
from preimage.feature_networks import NETWORKS
from preimage.measure.calibration import Calibration
from preimage.measure.cost import measure_cost
from preimage.measure.perceptual import LPIPS, TRUNKS, published_heads
from preimage.measure.sets import SetDistance
from preimage.measure.solutions import solution_space
from preimage.measure.suite import build_suite

BATCH = 10


def timed(
    call: Callable[[Tensor, Tensor], object], images: Tensor, blurred: Tensor, seconds: float
) -> tuple[float, float]:
    """Pictures a second over at least `seconds`, after one batch to warm up; and how many MiB the call needed."""
    parts = list(zip(images.split(BATCH), blurred.split(BATCH), strict=True))
    increase = measure_cost(lambda: call(*parts[0])).increase_bytes / 2**20
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for a, b in parts:
            call(a, b)
            done += len(a)
            if time.perf_counter() - began >= seconds:
                break
    return done / (time.perf_counter() - began), increase


def taking(distance: SetDistance) -> Callable[[Tensor, Tensor], object]:
    """The part of a distance between sets that each picture costs."""
    return lambda a, b: distance.update(a, real=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/faces256-val.zip"))
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--count", type=int, default=50, help="faces")
    parser.add_argument("--seconds", type=float, default=5.0, help="per metric")
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights"))
    parser.add_argument("--random", action="store_true", help="also time networks whose files are missing")
    options = parser.parse_args()
    with Collection(options.data) as faces:
        images = torch.stack([faces.tensor(n, options.size) for n in faces.sample(options.count)])
    blurred = torch.nn.functional.avg_pool2d(images, 3, 1, 1)
    suite = build_suite(weights=options.weights)
    rows: list[tuple[str, Callable[[Tensor, Tensor], object]]] = [
        (metric.name, metric) for metric in suite.metrics if metric.smallest <= options.size
    ]
    rows += [(key, taking(make())) for key, make in suite.sets.items()]
    if options.random:
        for which in TRUNKS:
            if f"lpips-{which}" in suite.missing:
                lpips = LPIPS(NETWORKS[TRUNKS[which]].network().eval(), published_heads(which))
                rows.append((f"lpips-{which} (random weights)", lpips.distance))
        if "fid" in suite.missing:
            rows.append(
                ("fid (random weights)", taking(SetDistance("inception", NETWORKS["inception"].network().eval())))
            )
    distance = suite.lpips
    rows.append(("calibration, 10 candidates", lambda a, b: Calibration().update(a, b[0])))
    if distance is not None:
        rows.append(
            (
                f"space of solutions, 10 candidates, {suite.lpips_name}",
                lambda a, b: solution_space(
                    a,
                    b[0],
                    maps=lambda x, y: distance.maps(x, y)[:, 0],
                    distance=distance.distance,
                    embed=suite.embed(),
                ),
            )
        )
    print(f"{options.size}x{options.size}, batches of {BATCH}, {torch.get_num_threads()} threads\n")
    print("| metric | pictures a second | memory of a batch, MiB |\n|---|---|---|")
    for name, call in rows:
        rate, increase = timed(call, images, blurred, options.seconds)
        print(f"| {name} | {rate:.3g} | {increase:.0f} |", flush=True)


if __name__ == "__main__":
    main()
