"""DeepSEE's recipe `deepsee-16to512`, 32 times, end to end: a training step, the exported file, a candidate, its proof.

    python benchmarks/deepsee_512.py

Everything at the recipe's own widths, one photo per step. Learns from one imagined face of `preimage sample` (enlarged to 512 px; the embedded
segmenter finds its regions), so that nothing but the clone is needed; after one step the pictures show nothing. A grid of one held-back face
is drawn and the averaged network is exported, as in any run. Printed: seconds of the step and of the whole command, seconds of a candidate,
and peak memory of both processes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from measured import preimage

from preimage.files import save_png
from preimage.weights import load_prior

SIDE = 512
FEATURES = "../shared/weights/vgg19-distilled-relu5_1.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", default="examples/face0.png")
    parser.add_argument(
        "--feature-weights", default=FEATURES, help="of the recipe's perceptual loss; absent: efficientnet-lite0"
    )
    parser.add_argument("--out", type=Path, help="folder to keep the run (1.5 GB) and the candidate in")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        measure(options, options.out or Path(temporary))


def measure(options: argparse.Namespace, out: Path) -> None:
    threads = {"OMP_NUM_THREADS": str(options.threads), "ACCELERATE_USE_CPU": "true"}
    for seed, face in enumerate(load_prior("faces128").sample([0, 1])):
        save_png(
            out / "faces" / f"face{seed}.png", F.interpolate(face[None], (SIDE, SIDE), mode="bicubic")[0].clamp(0, 1)
        )
    recipe = [
        "deepsee-16to512",
        "--out",
        str(out / "run"),
        "--data",
        json.dumps([str(out / "faces")]),
        "--masks",
        "[]",
        "--hold",
        "1",
    ]
    recipe += ["--images", "1", "--batch", "1", "--snapshot", "1", "--log", "1"]
    if Path(options.feature_weights).is_file():
        recipe += ["--feature_weights", options.feature_weights]
    else:
        recipe += ["--features", "efficientnet-lite0", "--feature_weights", "", "--perceptual_weights", "[]"]
    step = preimage(["train", *recipe], threads)
    line = json.loads((out / "run" / "stats.jsonl").read_text().splitlines()[-1])

    file = out / "run" / "deepsee.safetensors"
    candidate = preimage(
        [
            "upsample",
            options.photo,
            "--method",
            "deepsee",
            "--weights",
            str(file),
            "--seeds",
            "0",
            "-o",
            str(out / "candidate"),
        ],
        threads,
    )
    preimage(["verify", str(out / "candidate")], threads)

    print("\n| | seconds | peak memory, GiB |\n|---|---|---|")
    print(f"| a training step, one photo, fp32 | {line['seconds']:.0f} | at most {step.gib:.1f} |")
    print(f"| the same with a grid of one face, state and export | {step.seconds:.0f} | {step.gib:.1f} |")
    print(f"| a candidate, 16 to 512 px, files and all | {candidate.seconds:.0f} | {candidate.gib:.1f} |")
    print(f"\n{torch.__version__}, {options.threads} thread; {file.name}: {file.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
