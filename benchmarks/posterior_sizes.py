"""One network for every size and downscaling: exact files and LPIPS by size of the photo and kernel.

python benchmarks/posterior_sizes.py faces256-val.zip --weights ../shared/weights -n 16
"""

from __future__ import annotations

import argparse

import torch

import preimage
from preimage.collection import Collection
from preimage.measure.suite import build_suite

SIZES, KERNELS = (8, 12, 16, 23, 32, 48), ("bicubic", "area", "lanczos", "gaussian")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder or zip archive of aligned faces that nothing was trained on")
    parser.add_argument("--weights", required=True, help="folder of the feature networks")
    parser.add_argument("--network", default=None, help="network of the method; default: the embedded one")
    parser.add_argument("-n", "--count", type=int, default=16, help="faces")
    parser.add_argument("--seeds", type=int, default=2, help="candidates of each")
    parser.add_argument("--temperature", type=float, help="default: the method's")
    parser.add_argument("--sharpness", type=float, help="default: the method's")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    method = preimage.load("posterior", weights=options.network)
    asked = {"temperature": options.temperature, "sharpness": options.sharpness}
    controls = {name: value for name, value in asked.items() if value is not None}
    side = method.resolution
    bicubic = preimage.load("bicubic", prior=method.network)
    lpips = build_suite(["lpips-squeeze"], options.weights).lpips
    assert lpips is not None
    with Collection(options.data) as collection:
        truths = torch.stack([collection.tensor(name, side) for name in collection.sample(options.count, 0)])
    print(
        f"{options.count} faces, {options.seeds} candidates of each, {side} px; LPIPS* of posterior (of bicubic), exact files\n"
    )
    print("| photo | " + " | ".join(KERNELS) + " |\n|---" + "|---" * len(KERNELS) + "|")
    for size in options.sizes:
        cells = []
        for kernel in KERNELS:
            operator = preimage.make_operator(kernel, hr_size=side, lr_size=size)
            exact, far, plain = 0, 0.0, 0.0
            for truth in truths:
                lr = (operator(truth).clamp(0, 1) * 255).round() / 255
                found = preimage.upsample(lr, range(options.seeds), method=method, degradation=operator, **controls)
                exact += int(found.exact.sum())
                far += float(lpips.distance(found.images, truth.expand_as(found.images)).mean())
                smooth = preimage.upsample(lr, 0, method=bicubic, degradation=operator).images
                plain += float(lpips.distance(smooth, truth[None]).mean())
            n = len(truths)
            cells.append(f"{far / n:.3f} ({plain / n:.3f}), {100 * exact / n / options.seeds:.0f} %")
        print(f"| {size} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
