"""Does SR-NAM find its way? L1 by iteration on natively small faces and on faces degraded by the network; how restarts differ.

    python benchmarks/nam_convergence.py -n 0 --degraded 100 --presets default

L1 in grey levels between the photo and the degraded candidate, best so far; mean over photos and restarts. "apart" is the mean
absolute difference between two restarts of one photo, as 64x64 pictures and as the network degrades them.
"""

from __future__ import annotations

from nam_common import apart, degraded_photos, head, native_photos, parser, row, walk

from preimage.invert.nam import SRNAM
from preimage.weights import load_degradation, load_prior

AT = (1, 100, 250, 500)


def main() -> None:
    p = parser(__doc__, 4)
    p.add_argument("--presets", nargs="+", default=["default", "paper"])
    p.add_argument("--steps", type=int, default=500)
    p.add_argument("--photos", nargs="+", choices=["native", "degraded"], default=["native", "degraded"])
    args = p.parse_args()
    prior, degradation = load_prior(args.prior, args.device), load_degradation(args.degradation, args.device)
    native, words = native_photos(args, degradation.lr_size)
    photos = {"natively small": native} if "native" in args.photos else {}
    if "degraded" in args.photos:
        photos["degraded by the network"] = degraded_photos(args, degradation)
    at = sorted({min(step, args.steps) for step in AT})
    falling = ["L1 at start", *(f"at {step}" for step in at[1:])]
    head("preset", "photos", "count", *falling, "worst photo", "apart", "apart, degraded", "seconds per candidate")
    for preset in args.presets:
        settings = SRNAM.presets[preset].with_({"steps": args.steps})
        for name, some in photos.items():
            runs = walk(prior, degradation, degradation, some.to(args.device), args.seeds, settings)
            falls = [float(runs.trace[..., step - 1].mean()) for step in at]
            worst = float(runs.l1.mean(1).max())
            row(preset, name, str(len(some)), *falls, worst, apart(runs.images), apart(runs.small), runs.seconds)
    print(f"\n{args.seeds} restarts per photo, prior {prior.name}. {words}.")


if __name__ == "__main__":
    main()
