"""DeepSEE with and without a reference, and what its parts bring: tables 1 and 2 of the paper in our setting. A Markdown table.

    python benchmarks/deepsee_tables.py --weights ../shared/weights
    python benchmarks/deepsee_tables.py --networks runs/a/deepsee.safetensors runs/b/deepsee.safetensors --weights ../shared/weights

Faces are those of an archive whose `person` column names somebody with another picture in it, the reference: the next one of that person. Each
is shrunk by bicubic and answered by every network in each way that it knows:

  independent   styles and regions as found in the small photo
  guided        styles of the reference
  another face  styles of the next person's face: what a wrong reference costs
  own face      styles of the sharp face itself, which nobody has: the ceiling
  own map       regions of the sharp face, styles of the photo: what better maps would bring

`fd` is a distance between sets; with so few pictures it says who is nearer, not how near. Candidates and references are kept in `--out`.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor

from preimage.collection import Collection
from preimage.degrade.linear import bicubic
from preimage.errors import PreimageError
from preimage.files import save_png
from preimage.invert.deepsee import DeepSEE
from preimage.measure.evaluate import evaluate_folder
from preimage.measure.suite import build_suite
from preimage.semantics.segment import segment
from preimage.train.data import eight_bit, load_pictures, to_tensor
from preimage.weights import load_network

WAYS = ("independent", "guided", "another face", "own face", "own map")
METRICS = ("psnr-rgb", "ssim-rgb", "lpips-squeeze", "fd-squeeze", "fd-vgg", "identity")


def pairs(archive: Path) -> tuple[list[str], list[int], list[int]]:
    """Names of all pictures, the places of those whose person has another one, and the place of that one."""
    with Collection(archive) as collection:
        names = list(collection.names)
        persons = [collection.about(name).get("person", "") for name in names]
    of = defaultdict[str, list[int]](list)
    for place, person in enumerate(persons):
        if person:
            of[person].append(place)
    chosen = [place for place, person in enumerate(persons) if len(of[person]) > 1]
    others = [of[persons[i]][(of[persons[i]].index(i) + 1) % len(of[persons[i]])] for i in chosen]
    return names, chosen, others


def answers(
    method: DeepSEE,
    way: str,
    photo: Tensor,
    face: Tensor,
    other: Tensor,
    wrong: Tensor,
    seeds: list[int],
    temperature: float,
) -> Tensor:
    """Candidates (n, 3, R, R) of one photo."""
    guides: dict[str, Tensor] = {}
    if way in ("guided", "another face", "own face"):
        guides["reference"] = {"guided": other, "another face": wrong, "own face": face}[way]
    if way == "own map":
        network = load_network("segmenter-faces128", "segmenter")
        guides["mask"] = segment(network, face[None])[0]
    problem = method.pose(photo, **guides)
    settings = method.configure({"temperature": temperature}, seeds, guides.keys())
    return torch.cat([c.images for c in method.sample(problem, seeds, settings)])


def knows(method: DeepSEE, way: str) -> bool:
    """Whether a network can be asked in this way."""
    c = method.network.config
    if way in ("guided", "another face", "own face"):
        return bool(c.style) and c.sharp_styles
    if way == "own map" and c.regions == 1:
        return False
    return not c.style or c.small_styles


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["deepsee-16to128"], help="names or files")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/faces256-val.zip"))
    parser.add_argument("--weights", type=Path, default=None, help="folder of the networks that judge")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("-n", type=int, default=64, help="faces, the first of those that have a reference")
    parser.add_argument("--seeds", type=int, default=1, help="candidates of each")
    parser.add_argument("--temperature", type=float, default=0.25, help="of the styles that seeds draw")
    parser.add_argument("--out", type=Path, default=Path("out/deepsee-tables"))
    options = parser.parse_args()
    try:
        suite = build_suite(METRICS, options.weights)
        methods = [(Path(name).parent.name or name, DeepSEE(weights=name, device="cpu")) for name in options.networks]
        side = methods[0][1].resolution
        names, chosen, others = pairs(options.data)
        pictures = load_pictures([options.data], side, progress=sys.stderr.isatty())
        chosen, others = chosen[: options.n], others[: options.n]
        faces, sharp = (torch.cat([to_tensor(pictures[i : i + 1].copy()) for i in some]) for some in (chosen, others))
        photos = eight_bit(bicubic(side, lr_size=methods[0][1].network.config.lr_size)(faces))
        for i, face in zip(chosen, faces, strict=True):
            save_png(options.out / "reference" / f"{Path(names[i]).stem}.png", face)
        print("| network | answered | " + " | ".join(METRICS) + " |\n|---|---|" + "---|" * len(METRICS))
        with Collection(options.out / "reference") as reference:
            for name, method in methods:
                for way in (way for way in options.ways if knows(method, way)):
                    folder = options.out / f"{name}-{way}".replace(" ", "-")
                    for k, i in enumerate(chosen):
                        wrong = sharp[(k + 7) % len(sharp)]
                        made = answers(
                            method,
                            way,
                            photos[k],
                            faces[k],
                            sharp[k],
                            wrong,
                            list(range(options.seeds)),
                            options.temperature,
                        )
                        place = folder / Path(names[i]).stem
                        save_png(place / "input.png", photos[k])
                        for seed, image in enumerate(made):
                            save_png(place / f"seed{seed:04d}.png", image)
                    found = evaluate_folder(folder, reference, suite, progress=False).method
                    values = [
                        next((e for key, e in found.estimates.items() if key.startswith(m)), None) for m in METRICS
                    ]
                    cells = ["" if value is None else f"{value.mean:.4g}" for value in values]
                    print(f"| {name} | {way} | " + " | ".join(cells) + " |", flush=True)
    except PreimageError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
