"""A published StyleGAN2 layout end to end: a random generator of 1024 px, written as others write theirs, converted, searched, proved.

    python benchmarks/published_layouts.py

The generator has the shape of the published FFHQ network (config F, 30 million parameters) and random weights, so its pictures show nothing. In
each layout it goes through the command line: `preimage models convert`, three steps of PULSE at 64x (16 -> 1024 px), `preimage verify`.
Printed: seconds and peak memory of the conversion, and of the search with its files.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from measured import preimage

from preimage.generate.stylegan2 import StyleGAN2, StyleGAN2Config

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from stylegan2_layouts import write_nvidia, write_rosinality, write_tensorflow

WRITERS = {
    "NVIDIA, PyTorch": ("nvidia.pkl", write_nvidia),
    "NVIDIA, TensorFlow": ("tensorflow.pkl", write_tensorflow),
    "rosinality": ("rosinality.pt", write_rosinality),
}


def generator(resolution: int, channel_base: int) -> StyleGAN2:
    """Random, with noise that is heard and a mean latent."""
    torch.manual_seed(0)
    made = (
        StyleGAN2(StyleGAN2Config(resolution, channel_base=channel_base, channel_max=512), "random")
        .eval()
        .requires_grad_(False)
    )
    for name, p in made.synthesis.named_parameters():
        if name.endswith("noise_strength"):
            p.fill_(0.1)
    made.mapping.w_avg.copy_(made.mapping(torch.randn(1000, made.config.z_dim)).mean(0))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", default="examples/face0.png", help="16 px for 64x")
    parser.add_argument("--resolution", type=int, default=1024)
    parser.add_argument("--channel-base", type=int, default=32768)
    parser.add_argument("--candidates", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    threads, rows = {"OMP_NUM_THREADS": str(options.threads)}, []
    with tempfile.TemporaryDirectory() as temporary:
        made = generator(options.resolution, options.channel_base)
        paths = {name: write(made, Path(temporary) / file) for name, (file, write) in WRITERS.items()}
        for name, path in paths.items():
            ours, out = path.with_suffix(".safetensors"), Path(temporary) / path.stem
            ported = preimage(["models", "convert", str(path), "-o", str(ours)], threads)
            search = ["--method", "pulse", "--preset", "paper", "--method.steps", str(options.steps)]
            seeds = ["--seeds", f"0-{options.candidates - 1}" if options.candidates > 1 else "0"]
            found = preimage(
                ["upsample", options.photo, *search, "--prior", str(ours), *seeds, "-o", str(out)], threads
            )
            preimage(["verify", str(out)], threads)
            rows.append((name, path.stat().st_size / 1e6, ported, found))
    print(
        f"\n{sum(p.numel() for p in made.parameters()):,} parameters; torch {torch.__version__}, {options.threads} thread"
    )
    print("\n| layout | file, MB | conversion, s | GiB | search, s | GiB |\n|---|---|---|---|---|---|")
    for name, size, ported, found in rows:
        print(
            f"| {name} | {size:.0f} | {ported.seconds:.0f} | {ported.gib:.1f} | {found.seconds:.0f} | {found.gib:.1f} |"
        )


if __name__ == "__main__":
    main()
