"""What the paper of SR-NAM leaves open: one setting changed at a time, on natively small faces and on degraded ones.

    python benchmarks/nam_ablation.py rates -n 8       the learning rate, which the default rests on
    python benchmarks/nam_ablation.py settings -n 20   degradation, loss, sphere, noise, prior

L1 in grey levels between the photo and the candidate as the network degrades it (with the noise of its seed, or the noise the
search kept); kernel distance of the candidates to sharp faces; identity cosine of photo and degraded candidate; "rms z" is the
root mean square of the latents' coordinates: of z of a ProGAN (1 in training), of w of a style-based prior.
"""

from __future__ import annotations

from typing import Any

import torch
from nam_common import Judges, apart, degraded_photos, head, native_photos, parser, row, walk

from preimage.degrade.linear import bicubic
from preimage.invert.nam import SRNAM
from preimage.weights import load_degradation, load_prior

RATES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.2, 0.4)
BASE = "as the default (L1, sphere, fixed noise)"
SETTINGS: dict[str, dict[str, Any]] = {
    BASE: {},
    "bicubic degradation": {},
    "L2": {"loss": "l2"},
    "sphere off": {"sphere": False},
    "noise resampled": {"degradation_noise": "resampled"},
    "noise optimised": {"degradation_noise": "optimised"},
    "StyleGAN2 prior": {},
    "StyleGAN2 prior, sphere off": {"sphere": False},
}


def main() -> None:
    p = parser(__doc__, 4)
    p.add_argument("which", choices=["rates", "settings"])
    p.add_argument("--steps", type=int, default=250)
    p.add_argument("--style-prior", default="faces64", help="name or path of the StyleGAN2 prior")
    p.add_argument("--only", nargs="*", default=[], help="of the settings, those whose name holds one of these words")
    args = p.parse_args()
    prior, degradation = load_prior(args.prior, args.device), load_degradation(args.degradation, args.device)
    native, words = native_photos(args, degradation.lr_size)
    photos = torch.cat([native, degraded_photos(args, degradation)]).to(args.device)
    kinds = {"native": slice(0, len(native)), "degraded": slice(len(native), None)}
    default = SRNAM.presets["default"].with_({"steps": args.steps})
    judges = Judges(args, degradation.hr_size)
    if args.which == "rates":
        variants = {f"rate {rate:g}": {"lr": rate} for rate in RATES}
    else:
        variants = {k: v for k, v in SETTINGS.items() if not args.only or any(word in k for word in args.only)}
    looks = (f"kd-{judges.label}", "identity", "apart", "rms z")
    head("setting", *(f"L1, {kind}" for kind in kinds), *looks, "seconds per candidate")
    for name, controls in variants.items():
        linear = bicubic((prior.resolution,) * 2, lr_size=(degradation.lr_size,) * 2)
        searched = load_prior(args.style_prior, args.device) if "StyleGAN2" in name else prior
        operator = linear if name.startswith("bicubic") else degradation
        runs = walk(searched, operator, degradation, photos, args.seeds, default.with_(controls))
        distance, likeness = judges.kernel_distance(runs.images.flatten(0, 1)), judges.likeness(runs)
        falls = [f"{float(runs.l1[part].mean()):.2f}" for part in kinds.values()]
        seen = (f"{distance:.3f}", f"{likeness:.3f}", apart(runs.images), f"{runs.norm:.2f}")
        row(name, *falls, *seen, f"{runs.seconds:.1f}")
    print(
        f"\n{len(native)} natively small and {len(photos) - len(native)} degraded faces, {args.seeds} restarts of "
        f"{args.steps} iterations, prior {prior.name}. {words}."
    )


if __name__ == "__main__":
    main()
