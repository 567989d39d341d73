"""DeepSEE with and without a reference, and what its parts bring: tables 1 and 2 of the paper in our setting. A Markdown table.

    python benchmarks/deepsee_tables.py --weights ../shared/weights
    python benchmarks/deepsee_tables.py --networks runs/a/deepsee.safetensors runs/b/deepsee.safetensors --weights ../shared/weights

Faces are those of an archive whose `person` column names somebody with another picture in it, the reference: the next one of that person. Each
is shrunk by bicubic and answered by every network in each way that it knows:

  independent   styles and regions as found in the small photo
  guided        styles of the reference
  another face  styles of somebody else's picture: what a wrong reference costs
  own face      styles of the sharp face itself, which nobody has: the ceiling
  own map       regions of the sharp face, styles of the photo: what better maps would bring

`fd` is a distance between sets; with so few pictures it says who is nearer, not how near. Candidates and references are kept in `--out`, a new folder.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from preimage.collection import Collection
from preimage.errors import PreimageError
from preimage.files import save_png
from preimage.invert.deepsee import DeepSEE
from preimage.invert.deepsee_answers import downscaling
from preimage.measure.evaluate import evaluate_folder
from preimage.measure.suite import build_suite
from preimage.results import seed_file
from preimage.train.data import Pictures, eight_bit, load_pictures, to_tensor

WAYS = ("independent", "guided", "another face", "own face", "own map")
METRICS = ("psnr-rgb", "ssim-rgb", "lpips-squeeze", "fd-squeeze", "fd-vgg", "identity")


@dataclass(frozen=True)
class Face:
    """A face of the archive and the pictures that stand beside it, by place.

    Attributes:
        name: of its file, without suffix.
        place: of the face.
        other: another picture of the same person.
        stranger: one of somebody else.
    """

    name: str
    place: int
    other: int
    stranger: int


def find_faces(archive: Path) -> list[Face]:
    """Those whose person has another picture in the archive."""
    with Collection(archive) as collection:
        names = list(collection.names)
        persons = [collection.about(name).get("person", "") for name in names]
    of = defaultdict[str, list[int]](list)
    for place, person in enumerate(persons):
        if person:
            of[person].append(place)
    known = [place for place, person in enumerate(persons) if len(of[person]) > 1]
    found = []
    for k, place in enumerate(known):
        own = of[persons[place]]
        stranger = next(i for i in known[k + 1 :] + known if persons[i] != persons[place])
        found.append(Face(Path(names[place]).stem, place, own[(own.index(place) + 1) % len(own)], stranger))
    return found


def guides(way: str, face: Tensor, other: Tensor, stranger: Tensor) -> dict[str, Tensor]:
    """What a network is given beside the photo."""
    return {
        "independent": {},
        "guided": {"reference": other},
        "another face": {"reference": stranger},
        "own face": {"reference": face},
        "own map": {"mask_from": face},
    }[way]


def knows(method: DeepSEE, way: str) -> bool:
    """Whether a network can be asked in this way."""
    c = method.network.config
    if way in ("guided", "another face", "own face"):
        return bool(c.style) and c.sharp_styles
    if way == "own map" and c.regions == 1:
        return False
    return not c.style or c.small_styles


def sharp(pictures: Pictures, place: int) -> Tensor:
    """A face (3, R, R) in [0, 1]."""
    return to_tensor(pictures[place : place + 1].copy())[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["deepsee-16to128"], help="names or files")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/faces256-val.zip"))
    parser.add_argument("--weights", type=Path, default=None, help="folder of the networks that judge")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("-n", type=int, default=64, help="faces, the first of those that have a reference")
    parser.add_argument("--seeds", type=int, default=1, help="candidates of each")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the styles that seeds draw")
    parser.add_argument("--out", type=Path, default=Path("out/deepsee-tables"))
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out} is there already, and would be judged too; name another folder by --out.")
    try:
        suite = build_suite(METRICS, options.weights)
        methods = {Path(name).parent.name or name: DeepSEE(weights=name, device="cpu") for name in options.networks}
        first = next(iter(methods.values()))
        pictures = load_pictures([options.data], first.resolution, progress=sys.stderr.isatty())
        faces = find_faces(options.data)[: options.n]
        operator = downscaling(first.resolution, first.network.config.lr_size)
        for face in faces:
            save_png(options.out / "reference" / f"{face.name}.png", sharp(pictures, face.place))
        print("| network | answered | " + " | ".join(METRICS) + " |\n|---|---|" + "---|" * len(METRICS))
        with Collection(options.out / "reference") as reference:
            for name, method in methods.items():
                for way in (way for way in options.ways if knows(method, way)):
                    folder = options.out / f"{name}-{way}".replace(" ", "-")
                    for face in faces:
                        shown = [sharp(pictures, i) for i in (face.place, face.other, face.stranger)]
                        photo, given = eight_bit(operator(shown[0])), guides(way, *shown)
                        made = method.sample(
                            method.pose(photo, **given),
                            range(options.seeds),
                            method.configure({"temperature": options.temperature}, range(options.seeds), given.keys()),
                        )
                        save_png(folder / face.name / "input.png", photo)
                        for seed, image in enumerate(torch.cat([c.images for c in made])):
                            save_png(folder / face.name / seed_file(seed), image)
                    found = evaluate_folder(folder, reference, suite, progress=False).method.estimates
                    values = [next((e for key, e in found.items() if key.startswith(m)), None) for m in METRICS]
                    cells = ["" if value is None else f"{value.mean:.4g}" for value in values]
                    print(f"| {name} | {way} | " + " | ".join(cells) + " |", flush=True)
    except PreimageError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
