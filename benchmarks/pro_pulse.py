"""What an answer costs, and how near it comes to the photo by itself: PULSE and Pro-PULSE before one prior. A Markdown table.

    python benchmarks/pro_pulse.py -n 64
    python benchmarks/pro_pulse.py --encoder runs/pro-pulse-16to128/encoder.safetensors -n 64

Photos are faces of an archive, shrunk to the encoder's size by bicubic. LR-PSNR is of candidates before they are made exact. GFLOP counts a
multiplication with its addition as two; a step of a search is a forward and a backward pass, which costs one forward more (the prior is
frozen), of what it looks at; passes are the same in whole pictures of the prior.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from preimage.degrade.linear import make_operator
from preimage.errors import PreimageError
from preimage.invert.pro_pulse import ProPulse
from preimage.invert.pulse import Pulse
from preimage.invert.queue import Ask
from preimage.train.data import load_pictures, to_tensor

REFINE = (0, 5, 17, 20, 50, 100)  # 17 cost a fifth of PULSE as published


def flops(call: Callable[[], Any]) -> float:
    """Operations of a call, in units of 1e9."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops()) / 1e9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default=None, help="name or path; default: the embedded one")
    parser.add_argument("--prior", default=None, help="that it belongs to; default: found by its name")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/faces256-val.zip"))
    parser.add_argument("-n", type=int, default=64, help="evenly spaced faces")
    args = parser.parse_args()
    try:
        encoders = ProPulse(prior=args.prior, weights=args.encoder, device="cpu")
        prior: Any = encoders.prior
        pictures = load_pictures([args.data], prior.resolution, progress=sys.stderr.isatty())
        chosen = np.linspace(0, len(pictures) - 1, args.n).astype(int)
        side = encoders.encoder.lr_size
        operator = make_operator("bicubic", hr_size=prior.resolution, lr_size=side)
        photos = (operator(to_tensor(np.stack([pictures[i] for i in chosen]))).clamp(0, 1) * 255).round() / 255
    except PreimageError as error:
        print(error, file=sys.stderr)
        return 1
    mean = prior.mean_latent.expand(1, *prior.latent_shape)
    whole = flops(lambda: prior.synthesize(mean))
    exact = getattr(prior, "shrinks_to", None) == operator
    step = flops(lambda: prior.side_outputs(mean, largest=side)) if exact else whole
    encode = flops(lambda: encoders.encoder(photos[:1]))
    pulse = Pulse(prior=prior, device="cpu")
    runs: list[tuple[str, Any, Any, float]] = [
        (f"pro-pulse, refine {n}", encoders, encoders.presets["default"].with_({"refine": n}), encode) for n in REFINE
    ]
    runs += [(f"pulse, {preset}", pulse, pulse.presets[preset], 0.0) for preset in ("paper", "default")]
    if getattr(prior, "invertible", False) and exact:
        runs.append(("pulse, inverse", pulse, pulse.presets["inverse"], flops(lambda: prior.invert(photos[:1]))))
    print("| method | LR-PSNR before projection: mean, worst | RMS, median | seconds | GFLOP | passes |")
    print("|---|---|---|---|---|---|")
    for name, method, settings, before in runs:
        began = time.process_time()
        found = [c for _, c in method.sample_each([Ask(method.pose(photo), (0,)) for photo in photos], settings)]
        seconds = (time.process_time() - began) / len(photos)
        error = torch.cat([c.error_before for c in found])
        steps = float(torch.cat([c.steps for c in found]).float().mean())
        psnr = 20 * torch.log10(255 / error)
        work = before + whole + (2 * step * steps if steps > 1 else 0.0)
        print(
            f"| {name} | {float(psnr.mean()):.1f}, {float(psnr.min()):.1f} | {float(error.median()):.1f} | {seconds:.2f} | {work:.1f} | "
            f"{work / whole:.1f} |",
            flush=True,
        )
    print(
        f"\n{prior.name}: a whole picture {whole:.2f} GFLOP, what a step looks at {step:.3f}, the encoder {encode:.2f}."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
