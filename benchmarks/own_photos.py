"""Whole photos made of aligned faces: which are found, how well they are aligned, and what pasting back leaves untouched.

    python benchmarks/own_photos.py ../shared/data/faces256-val.zip -o out/own-photos

Each photo is a gradient with a texture, and on it four faces of 20 to 60 pixels (the side of FFHQ's square) that are turned by up to
30 degrees; some photos are noisy or went through JPEG. The true squares are known, because every face of the archive fills its picture.
It prints Markdown: the share found by side, turn and damage, the error of the corners in pixels and of the face's side, false alarms;
and over the photos whose faces are pasted back (by PASTED seeds of `posterior`) how far they are from the enlarged photo outside the
faces and along their edges, and what pasting costs. `-o` keeps some photos and pasted photos to look at: pictures of real people.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import preimage
from preimage.collection import Collection
from preimage.degrade.corrupt import gaussian_noise, jpeg
from preimage.faces.align import align, native_side, paste, quad
from preimage.faces.detect import load_detector
from preimage.faces.face import Face
from preimage.faces.photo import enlarge, paste_back, pasting_cost
from preimage.files import save_png
from preimage.image import to_uint8
from preimage.invert.method import Method
from preimage.photos import PhotoCandidates

WIDTH, HEIGHT, PLACES = 480, 360, ((120, 95), (355, 90), (115, 265), (360, 270))
SIDES, TURNS = (20, 27, 38, 60), (0, 15, 30)
DAMAGES = {
    "clean": (0, 0), "noise 5": (5, 0), "JPEG 75": (0, 75), "noise 10, JPEG 50": (10, 50),
}  # fmt: skip
LR_SIDES = (16, 32, 48, 64, 72, 80, 96)
FOUND = 0.25
"""Of a face's side: a finding whose centre is further off, or whose side is wrong by more than 1.5 times, is another thing."""


@dataclass
class Truth:
    """A face of a composed photo: its corners (4, 2), side in pixels and turn in degrees."""

    corners: Tensor
    side: int
    turn: int


@dataclass
class Row:
    """Findings of one kind: the errors of those found, and how many there were."""

    of: int = 0
    pixels: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)


def background(draw: random.Random) -> Tensor:
    """A gradient between two colours with a texture of a random scale, (3, HEIGHT, WIDTH) in [0, 1]."""
    seeded = torch.Generator().manual_seed(draw.randrange(1 << 30))
    angle = draw.random() * 2 * math.pi
    y, x = torch.meshgrid(torch.linspace(-1, 1, HEIGHT), torch.linspace(-1, 1, WIDTH), indexing="ij")
    way = (0.5 + 0.35 * (math.cos(angle) * x + math.sin(angle) * y)).clamp(0, 1)
    first, second = (torch.rand(3, 1, 1, generator=seeded) for _ in range(2))
    scale = draw.choice((4, 12, 40))
    coarse = torch.rand(1, 3, HEIGHT // scale + 2, WIDTH // scale + 2, generator=seeded) - 0.5
    texture = F.interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic", align_corners=False)[0]
    return (first * (1 - way) + second * way + draw.choice((0.05, 0.2)) * texture).clamp(0, 1)


def square(x: float, y: float, side: float, turn: float) -> Tensor:
    """Corners (4, 2), clockwise from the upper left."""
    angle = math.radians(turn)
    across = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64) * side / 2
    down, middle = torch.stack([-across[1], across[0]]), torch.tensor([x, y], dtype=torch.float64)
    return torch.stack([middle - across - down, middle + across - down, middle + across + down, middle - across + down])


def compose(faces: list[Tensor], damage: str, draw: random.Random) -> tuple[Tensor, list[Truth]]:
    """A photo with these faces on it, and where they are."""
    photo, truths = background(draw), []
    for face, (x, y) in zip(faces, PLACES, strict=True):
        side, turn = draw.choice(SIDES), draw.choice(TURNS) * draw.choice((-1, 1))
        corners = square(x + draw.uniform(-25, 25), y + draw.uniform(-25, 25), side, turn)
        photo = paste(photo, face, corners, feather=0.1)
        truths.append(Truth(corners, side, abs(turn)))
    noise, quality = DAMAGES[damage]
    photo = to_uint8(photo)[None].float() / 255
    if noise:
        photo = gaussian_noise(photo, noise, seed=draw.randrange(1 << 20))
    if quality:
        photo = jpeg(photo, quality)
    photo = photo[0]
    return to_uint8(photo).float() / 255, truths


def judge(squares: list[Tensor], truths: list[Truth]) -> list[tuple[Truth, Tensor | None]]:
    """The finding that belongs to each face; each finding once."""
    left, pairs = list(squares), []
    for truth in truths:
        near = [
            found
            for found in left
            if float((found.mean(0) - truth.corners.mean(0)).norm()) < FOUND * truth.side
            and 1 / 1.5 < native_side(found) / truth.side < 1.5
        ]
        best = min(near, key=lambda found: float((found - truth.corners).norm()), default=None)
        left = [found for found in left if found is not best]
        pairs.append((truth, best))
    return pairs


def table(title: str, rows: dict[str, Row]) -> None:
    """Markdown."""
    print(
        f"\n| {title} | faces | found | corners off, px: mean, 95th percentile | in shares of the side | side, of the true one |"
    )
    print("|---|---|---|---|---|---|")
    for name, row in rows.items():
        if not row.pixels:
            print(f"| {name} | {row.of} | 0 % | | | |")
            continue
        pixels, sizes = torch.tensor(row.pixels), torch.tensor(row.sizes)
        print(
            f"| {name} | {row.of} | {100 * len(pixels) / row.of:.0f} % | {pixels.mean():.1f}, {pixels.quantile(0.95):.1f} "
            f"| {sum(row.shares) / len(pixels):.3f} | {sizes.mean():.2f} ± {sizes.std():.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", help="folder or archive of faces in FFHQ's alignment")
    parser.add_argument("--photos", type=int, default=48)
    parser.add_argument(
        "--pasted", type=int, default=6, help="photos that are answered and pasted back, two seeds each"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--detector", default="mtcnn")
    parser.add_argument("-o", "--output", help="folder for photos to look at")
    options = parser.parse_args()
    draw, detector = random.Random(options.seed), load_detector(options.detector)
    collection = Collection(options.faces)
    names = collection.sample(4 * options.photos, options.seed)
    method = preimage.load("posterior")
    by: dict[str, dict[str, Row]] = {"side": {}, "turn": {}, "damage": {}}
    alarms, seconds = 0, 0.0
    pasted: dict[str, list[float]] = {
        "outside": [],
        "seam": [],
        "seam before": [],
        "whole": [],
        "inside": [],
        "untouched": [],
    }
    for number in range(options.photos):
        damage = list(DAMAGES)[number % len(DAMAGES)]
        faces = [collection.tensor(name, 256) for name in names[4 * number : 4 * number + 4]]
        photo, truths = compose(faces, damage, draw)
        began = time.monotonic()
        found = detector(photo)
        seconds += time.monotonic() - began
        pairs = judge([quad(face.points) for face in found], truths)
        alarms += len(found) - sum(best is not None for _, best in pairs)
        for truth, best in pairs:
            for kind, name in (("side", f"{truth.side} px"), ("turn", f"{truth.turn}°"), ("damage", damage)):
                row = by[kind].setdefault(name, Row())
                row.of += 1
                if best is not None:
                    off = float((best - truth.corners).norm(dim=1).mean())
                    row.pixels.append(off)
                    row.shares.append(off / truth.side)
                    row.sizes.append(native_side(best) / truth.side)
        if number < options.pasted and found:
            paste_and_measure(photo, found, method, pasted, options.output, number)
    print(
        f"`{options.detector}`: {options.photos} photos of {WIDTH}x{HEIGHT}, four faces each, seed {options.seed};",
        end=" ",
    )
    print(f"{alarms} false alarms, {seconds / options.photos:.2f} s a photo on {torch.get_num_threads()} thread(s)")
    for kind, rows in by.items():
        order = (
            sorted(rows, key=lambda name: int(name.split()[0].rstrip("°")))
            if kind != "damage"
            else [name for name in DAMAGES if name in rows]
        )
        table(kind, {name: rows[name] for name in order})
    if options.pasted:
        exactness(collection, method, names[:4])
    if pasted["outside"]:
        means = {name: sum(values) / len(values) for name, values in pasted.items()}
        print(f"\nPasted back, {len(pasted['outside']) // 2} photos by two seeds each, grey levels:")
        print(f"largest difference outside the squares {max(pasted['outside']):.0f};")
        print(
            f"squares cut out of the enlarged photo and put back as they are, RMS within them {means['untouched']:.2f};"
        )
        print(
            f"RMS step along the squares' edges {means['seam']:.2f}, in the enlarged photo at the same places {means['seam before']:.2f};"
        )
        print(
            f"cut out again and shrunk, RMS from the input {means['whole']:.2f}, where the mask is 1 {means['inside']:.2f}"
        )


def paste_and_measure(
    photo: Tensor, found: list[Face], method: Method, sums: dict[str, list[float]], output: str | None, number: int
) -> None:
    """Answer the faces of a photo, paste them back, and measure what that changed."""
    answers: PhotoCandidates = preimage.upsample_photo(photo, "0-1", detector=lambda given: found, method=method)
    times = answers.enlarged
    large = enlarge(photo, times)
    outside = torch.ones(large.shape[1:], dtype=torch.bool)
    for cut in answers.cuts:
        outside &= ~within(cut.corners * times, *large.shape[1:])
    own = [align(large, cut.corners * times, 256) for cut in answers.cuts]
    again = paste_back(large, times, answers.cuts, own)
    sums["untouched"].append(float((again - large)[:, ~outside].square().mean().sqrt()) * 255)
    for seed in (0, 1):
        made = to_uint8(answers.pasted(seed)).float() / 255
        sums["outside"].append(float((made - large).abs()[:, outside].max()) * 255)
        for cut, candidates in zip(answers.cuts, answers.candidates, strict=True):
            sums["seam"].append(seam(made, cut.corners * times))
            sums["seam before"].append(seam(large, cut.corners * times))
            side = candidates.images.shape[-1]
            whole, inside = pasting_cost(made, times, cut, side, candidates.degradation.photograph)
            sums["whole"].append(whole)
            sums["inside"].append(inside)
        if output:
            save_png(Path(output) / f"photo{number}_seed{seed}.png", made)
    if output:
        save_png(Path(output) / f"photo{number}.png", photo)
        save_png(Path(output) / f"photo{number}_enlarged.png", large)


def exactness(collection: Collection, method: Method, names: list[str]) -> None:
    """From which side of the small picture on no file shrinks to it byte for byte."""
    whole = square(128, 128, 256, 0)
    print("\n| side of the small picture | " + " | ".join(map(str, LR_SIDES)) + " |")
    print("|---" * (len(LR_SIDES) + 1) + "|")
    shares = []
    for side in LR_SIDES:
        small = [to_uint8(align(collection.tensor(name, 256), whole, side)).float() / 255 for name in names]
        exact = torch.cat([preimage.upsample(lr, "0-1", method=method).exact for lr in small])
        shares.append(f"{100 * float(exact.float().mean()):.0f} %")
    print(f"| exact, of {2 * len(names)} candidates | " + " | ".join(shares) + " |")


def within(corners: Tensor, height: int, width: int) -> Tensor:
    """Which pixels of a picture have their middle in a square."""
    x, y = torch.arange(width).double() + 0.5, torch.arange(height).double() + 0.5
    across, down = corners[1] - corners[0], corners[3] - corners[0]
    size = native_side(corners) ** 2
    u = ((x - corners[0, 0])[None] * across[0] + (y - corners[0, 1])[:, None] * across[1]) / size
    v = ((x - corners[0, 0])[None] * down[0] + (y - corners[0, 1])[:, None] * down[1]) / size
    return (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)


def seam(picture: Tensor, corners: Tensor) -> float:
    """RMS difference in grey levels between points one pixel inside and one pixel outside a square's edges."""
    native, middle = native_side(corners), corners.mean(0)
    steps = torch.linspace(0.02, 0.98, 100, dtype=torch.float64)[:, None]
    values = []
    for move in (-1.0, 1.0):
        ring = middle + (corners - middle) * (1 + 2 * move / native)
        lines = torch.cat([ring[i] + steps * (ring[(i + 1) % 4] - ring[i]) for i in range(4)])
        height, width = picture.shape[-2:]
        grid = (2 * lines / torch.tensor([width, height]) - 1)[None, None]
        values.append(F.grid_sample(picture[None].double(), grid, align_corners=False, padding_mode="border")[0, :, 0])
    return float((values[0] - values[1]).square().mean().sqrt()) * 255


if __name__ == "__main__":
    main()
