"""What each part of posterior is worth: variants of one recipe, trained on the same photos, judged on faces they never saw.

python benchmarks/posterior_ablation.py --data faces.zip --squeezenet squeezenet.safetensors --weights ../shared/weights --images 4000
    every variant has a folder of its own below -o and goes on where it stopped; one table in the end

Variants replace a function of `preimage.train.posterior` while they train; what they are is said beside each.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.degrade.linear import LinearOperator
from preimage.invert.sampler import answer, draw, load_sampler
from preimage.measure.suite import build_suite
from preimage.nets.features import load_features
from preimage.train import posterior
from preimage.train.posterior import Recipe, train
from preimage.train.posterior_photos import small
from preimage.train.posterior_settings import problem
from preimage.train.recipes import load_recipe

ANSWERS = 4  # of each photo that is judged


def unprojected(
    network: Any, operator: LinearOperator, photo: Tensor, z: Mapping[str, Tensor], tolerance: float = 0.0
) -> Tensor:
    """`answer` without its last layer; what it makes is projected when it is judged."""
    side = operator.hr_size[0]
    size = photo.new_full((len(photo),), math.log2(operator.lr_size[0]))
    smooth = F.interpolate(photo, (side, side), mode="bicubic", align_corners=False)
    return (smooth + network(operator.pinv(photo), size, z, torch.full_like(size, tolerance))).float()


def blind(
    network: Any, operator: LinearOperator, photo: Tensor, z: Mapping[str, Tensor], tolerance: float = 0.0
) -> Tensor:
    """`answer` of a network that does not see the photo: an unconditional generator behind a projection."""

    def unseeing(enlarged: Tensor, size: Tensor, z: Mapping[str, Tensor], tolerance: Tensor | None = None) -> Tensor:
        out: Tensor = network(torch.full_like(enlarged, 0.5), torch.full_like(size, 4.0), z, tolerance)
        return out

    return answer(unseeing, operator, photo, z, tolerance)


def reward(first: Tensor, second: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """rcGAN's (Bendel et al., 2023) in the place of the energy score, for two answers: L1 of their mean, and their spread.

    For normal errors |a − b| is 2/√π deviations; the weight of the spread is theirs for P = 2, √(2 / (π P (P + 1))).
    """
    far = ((first + second) / 2 - truth).float().abs().mean()
    deviation = (first - second).float().abs().mean() * math.sqrt(math.pi) / 2
    return far, 2 * math.sqrt(2 / (math.pi * 2 * 3)) * deviation


Change = dict[str, Any]
UNTOLD: Change = {"keep_sharpness": 0.0, "generator": {"sharpness": ()}}
VARIANTS: dict[str, tuple[Change, dict[str, Callable[..., Any]]]] = {
    "as it is": ({}, {}),
    "projection afterwards": ({}, {"answer": unprojected}),
    "rcGAN's reward": ({"spread": 1.0, "texture_score": 0.0}, {"energy_score": reward}),
    "no score": ({"feature_score": 0.0, "pixel_score": 0.0, "texture_score": 0.0}, {}),
    "proper score": ({"spread": 1.0}, {}),
    "no texture score": ({"texture_score": 0.0}, {}),
    "sharpness not told": (UNTOLD, {}),
    "score in features alone": ({"pixel_score": 0.0, "texture_score": 0.0}, {}),
    "score in pixels alone": ({"feature_score": 0.0}, {}),
    "no adversary": ({"adversary": 0.0}, {}),
    "photo not seen": ({}, {"answer": blind}),
    "SqueezeNet features": ({"features": "squeezenet"}, {}),
}


@torch.no_grad()
def judged(path: Path, recipe: Recipe, how: Callable[..., Tensor], weights: str) -> list[float]:
    """LPIPS*, best of four, distance of two answers, ratio of errors, and how far the means of VGG features lie from the truths'."""
    network = load_sampler(path)
    suite = build_suite(["lpips-squeeze"], weights)
    assert suite.lpips is not None
    _, held = posterior.faces(recipe, progress=False)
    truth = torch.stack([torch.from_numpy(held[i].copy()) for i in range(len(held))]).permute(0, 3, 1, 2).float() / 255
    operator = problem("bicubic", recipe.generator.resolution, recipe.problems.focus)
    photo = small(truth, operator)
    n, answers = len(truth), list[Tensor]()
    for k in range(ANSWERS):
        z = draw(network.config, range(k * n, (k + 1) * n))
        answers.append(operator.project(how(network, operator, photo, z), photo).clamp(0, 1))
    far = torch.stack([suite.lpips.distance(x, truth) for x in answers])
    apart = suite.lpips.distance(answers[0], answers[1]).mean()
    one = torch.stack([(x - truth).square().mean() for x in answers]).mean()
    both = ((answers[0] + answers[1]) / 2 - truth).square().mean()
    looked = load_features("vgg19-distilled", Path(weights) / "vgg19-distilled-relu5_1.safetensors")
    found, real = (looked.pooled(x) for x in (answers[0], truth))
    distance = ((found.mean(0) - real.mean(0)) / real.std(0).clamp_min(1e-6)).square().sum()
    return [float(x) for x in (far.mean(), far.min(0).values.mean(), apart, one / both, distance)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--weights", required=True, help="folder of the feature networks that judge")
    parser.add_argument("--squeezenet", default="", help="its file; without one that variant is left out")
    parser.add_argument("--images", type=int, default=4000, help="photos that each variant sees")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("-o", "--output", default="runs/ablation")
    options = parser.parse_args()
    _, recipe = load_recipe("posterior-64")
    half = options.images // 4 // recipe.batch * recipe.batch
    recipe = replace(
        recipe, data=options.data, images=options.images, snapshot=options.images, lr_steps=(), precision=options.precision,
        adversary_start=(half, 2 * half), ema_half_life=500.0,
    )  # fmt: skip
    print(
        "| variant | LPIPS* | best of 4 | apart | ratio of errors | VGG means apart |\n|---|---|---|---|---|---|",
        flush=True,
    )
    for name, (changes, functions) in VARIANTS.items():
        if name.startswith("SqueezeNet"):
            if not options.squeezenet:
                continue
            changes = {**changes, "feature_weights": options.squeezenet}
        out = Path(options.output) / name.replace(" ", "-").replace("'", "")
        shape = replace(recipe.generator, **changes.get("generator", {}))
        variant = replace(recipe, **{**changes, "out": str(out), "generator": shape})
        with patch.multiple(posterior, **functions) if functions else nullcontext():
            path = train(variant)
        how = functions.get("answer", answer)
        values = [f"{x:.3f}" for x in judged(path, variant, how, options.weights)]
        if variant.features == "squeezenet":  # which judges the first three
            values[:3] = ["", "", ""]
        print(f"| {name} | " + " | ".join(values) + " |", flush=True)


if __name__ == "__main__":
    main()
