"""Which pictures pass for photographs: candidates of several methods and real faces, shuffled on one page, marked blind.

python benchmarks/believability.py draw faces256-val.zip -o out/page --methods pulse,posterior --side 64 --count 64
    writes page-1.png, … with a number under each picture, and key.json, which stays closed until all are marked
python benchmarks/believability.py score out/page --fakes 3,17-21,40
    shares of each kind that were marked as no photograph
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch
from PIL import Image

import preimage
from preimage.collection import Collection
from preimage.files import save_png
from preimage.image import as_picture, to_uint8
from preimage.seeds import parse_seeds
from preimage.sheet import contact_sheet

PER_PAGE, CELL = 48, 128


def resized(picture: torch.Tensor, side: int) -> torch.Tensor:
    """A picture (3, H, W) in [0, 1] at another size, by Lanczos."""
    image = Image.fromarray(to_uint8(picture[None])[0].permute(1, 2, 0).numpy())
    return as_picture(image.resize((side, side), Image.Resampling.LANCZOS)).pixels


def draw(options: argparse.Namespace) -> None:
    rng = random.Random(options.seed)
    pictures: list[tuple[str, torch.Tensor]] = []
    with Collection(options.data) as collection:
        names = collection.sample(options.count * 2, options.seed)
        if len(names) < options.count * 2:
            raise SystemExit(f"{options.data}: {len(names)} pictures, but two for each of {options.count} are needed.")
        shown, hidden = names[: options.count], names[options.count :]  # no real face beside its own answers
        pictures += [("real", collection.tensor(name, options.side)) for name in shown]
        for spec in options.methods.split(","):
            name, _, network = spec.partition("=")
            method = preimage.load(
                name, **({"weights" if name == "posterior" else "prior": network} if network else {})
            )
            for i, face in enumerate(hidden):
                truth = collection.tensor(face, method.resolution)
                operator = preimage.make_operator("bicubic", hr_size=method.resolution, lr_size=options.size)
                lr = (operator(truth).clamp(0, 1) * 255).round() / 255
                found = preimage.upsample(lr, i, method=method).images[0]
                pictures.append((spec, found if method.resolution == options.side else resized(found, options.side)))
    rng.shuffle(pictures)
    out = Path(options.output)
    for page, first in enumerate(range(0, len(pictures), PER_PAGE), start=1):
        part = pictures[first : first + PER_PAGE]
        rows = [part[i : i + 8] for i in range(0, len(part), 8)]
        numbers = [[str(first + 8 * row + i) for i in range(len(faces))] for row, faces in enumerate(rows)]
        sheet = contact_sheet([[p for _, p in row] for row in rows], captions=numbers, cell=CELL)
        save_png(out / f"page-{page}.png", sheet)
    key = {"kinds": [kind for kind, _ in pictures], "size": options.size, "side": options.side, "seed": options.seed}
    (out / "key.json").write_text(json.dumps(key))
    print(f"{len(pictures)} pictures on {page} pages in {out}")


def score(options: argparse.Namespace) -> None:
    kinds = json.loads((Path(options.page) / "key.json").read_text())["kinds"]
    marked = set(parse_seeds(options.fakes)) if options.fakes else set()
    if beyond := sorted(i for i in marked if i >= len(kinds)):
        raise SystemExit(f"--fakes: there are {len(kinds)} pictures, no {beyond[0]}.")
    print("| kind | pictures | marked as no photograph |\n|---|---|---|")
    for kind in sorted(set(kinds)):
        numbers = [i for i, k in enumerate(kinds) if k == kind]
        share = sum(i in marked for i in numbers) / len(numbers)
        print(f"| {kind} | {len(numbers)} | {100 * share:.0f} % |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    page = commands.add_parser("draw")
    page.add_argument("data", help="folder or zip archive of aligned faces that nothing was trained on")
    page.add_argument("-o", "--output", required=True)
    page.add_argument(
        "--methods", default="pulse,posterior", help="names, with a network of their own: posterior=my.safetensors"
    )
    page.add_argument("--count", type=int, default=64, help="pictures of each kind")
    page.add_argument("--side", type=int, default=64, help="at which all are shown")
    page.add_argument("--size", type=int, default=16, help="of the photos that the methods answer")
    page.add_argument("--seed", type=int, default=0)
    page.set_defaults(run=draw)
    marks = commands.add_parser("score")
    marks.add_argument("page")
    marks.add_argument("--fakes", required=True, help="numbers that are no photographs, such as 3,17-21")
    marks.set_defaults(run=score)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
