"""Natively small faces: bicubic, PULSE told bicubic, and SR-NAM side by side, and a picture with the worst results.

    python benchmarks/nam_side_by_side.py -n 0 --grid docs/nam.png

Kernel distance is between all candidates and the sharp faces; identity is the cosine between the photo and the candidate as
the network degrades it, with the noise of its seed; L1 likewise, in grey levels. Bicubic and PULSE explain the photo by bicubic
downscaling exactly, which is not how it was made.
"""

from __future__ import annotations

from pathlib import Path

import torch
from nam_common import Judges, Runs, apart, head, native_photos, of_candidates, parser, row
from torch import Tensor

from preimage.candidates import Candidates
from preimage.files import save_png
from preimage.invert.registry import load
from preimage.sheet import contact_sheet
from preimage.weights import load_degradation

SHOWN, FAILURES = 6, 4


def shown(runs: dict[str, Runs], photos: Tensor, path: Path) -> None:
    """Rows: some photos, then the worst of SR-NAM. Columns: photo, the others' first candidate, SR-NAM's, its first degraded."""
    nam = runs["sr-nam"]
    order = nam.l1.mean(1).argsort(descending=True).tolist()
    some = sorted(order[FAILURES:])[:SHOWN]
    rows, labels = [], []
    for i in [*some, *order[:FAILURES]]:
        firsts = [runs[name].images[i, 0] for name in runs if name != "sr-nam"]
        rows.append([photos[i], *firsts, *nam.images[i], nam.small[i, 0].clamp(0, 1)])
        labels.append(f"{'worst, ' if i in order[:FAILURES] else ''}L1 {nam.l1[i].mean():.1f}")
    columns = ["photo", *(n for n in runs if n != "sr-nam"), *(f"sr-nam {s}" for s in range(nam.images.shape[1]))]
    save_png(path, contact_sheet(rows, row_labels=labels, column_labels=[*columns, "degraded"], cell=96))


def main() -> None:
    p = parser(__doc__, 6)
    p.add_argument("--steps", type=int, default=None, help="of SR-NAM, instead of its preset's")
    p.add_argument("--pulse-prior", default=None, help="default: the package's")
    p.add_argument(
        "--methods", nargs="+", default=["bicubic", "pulse", "sr-nam"], help="sr-nam among them for a picture"
    )
    p.add_argument("--grid", type=Path, help="where to draw the picture")
    args = p.parse_args()
    degradation = load_degradation(args.degradation, args.device)
    photos, words = native_photos(args, degradation.lr_size)
    judges = Judges(args, degradation.hr_size)
    runs: dict[str, Runs] = {}
    names = ("method", f"kd-{judges.label} to sharp faces", "identity, degraded", "L1, degraded", "apart")
    head(*names, "seconds per candidate")
    for name, prior, operator in (
        ("bicubic", args.prior, "bicubic"),
        ("pulse, bicubic", args.pulse_prior, "bicubic"),
        ("sr-nam", args.prior, degradation),
    ):
        if name.partition(",")[0] not in args.methods:
            continue
        method = load(name.partition(",")[0], prior=prior, device=args.device)
        controls = {"steps": args.steps} if name == "sr-nam" and args.steps else {}
        parts = [
            Candidates.cat(list(method.upsample(photo, range(args.seeds), operator, **controls))) for photo in photos
        ]
        runs[name] = r = of_candidates(parts, photos, degradation)
        distance, likeness = judges.kernel_distance(r.images.flatten(0, 1)), judges.likeness(r)
        row(name, f"{distance:.3f}", f"{likeness:.3f}", float(r.l1.mean()), apart(r.images), f"{r.seconds:.2f}")
    print(f"\n{len(photos)} photos, {args.seeds} candidates each. {words}.")
    if args.grid and "sr-nam" in runs:
        shown(runs, photos, args.grid)


if __name__ == "__main__":
    with torch.no_grad():
        main()
