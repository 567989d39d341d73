"""Whole photos in a folder of results: every face an entry that is proved, every seed a pasted photo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import preimage
from preimage.cli import main
from preimage.degrade.linear import bicubic
from preimage.errors import InputError, MethodError
from preimage.faces.face import Face
from preimage.faces.photo import enlarge
from preimage.files import save_png
from preimage.image import read_image
from preimage.measure.folder import find_cases
from preimage.upsampling import upsample_folder
from preimage.verify import verify_folder

EXAMPLE = Path(__file__).parents[1] / "examples" / "face0.png"


@pytest.fixture
def photo(tmp_path) -> Path:
    """Waves, 120 wide and 90 high, with nothing in it that any detector would find."""
    y, x = torch.arange(90.0)[:, None], torch.arange(120.0)[None]
    waves = torch.stack([torch.sin(x / 9 + k) * torch.cos(y / 8 - k) for k in range(3)])
    save_png(tmp_path / "photo.png", 0.5 + 0.35 * waves)
    return tmp_path / "photo.png"


@pytest.fixture
def detector(face_at):
    """Two faces in a photo of that width, none in others."""

    def two(picture: Tensor) -> list[Face]:
        return [face_at(30.3, 40.6, 24.7), face_at(84, 50, 32)] if picture.shape[-1] == 120 else []

    return two


def test_every_face_is_proved_and_every_seed_is_pasted(photo, detector, tmp_path):
    out = tmp_path / "out"
    tally = upsample_folder([photo], out, seeds="0-1", faces="all", detector=detector)
    assert (tally.written, tally.exact, tally.problems) == (4, 4, [])
    assert verify_folder(out).exact == 4
    assert {p.name for p in out.iterdir() if p.is_dir()} == {"photo", "photo_face0", "photo_face1"}
    assert {p.name for p in (out / "photo").iterdir()} == {"photo.json", "pasted_seed0000.png", "pasted_seed0001.png"}
    assert Image.open(out / "photo_face0" / "input.png").size == (32, 32)
    assert Image.open(out / "photo_face1" / "input.png").size == (24, 24)
    record = json.loads((out / "photo" / "photo.json").read_text())
    assert record["photo"] == "photo.png"
    assert record["faces"]["photo_face1"]["native_side"] == pytest.approx(24.7, abs=0.01)
    times = record["pasted"]["pasted_seed0000.png"]["enlarged"]
    assert times == 6  # 128 / 24.7, rounded up
    pasted = read_image(out / "photo" / "pasted_seed0001.png").pixels
    background = enlarge(read_image(photo).pixels, times)
    outside = torch.ones(pasted.shape[1:], dtype=torch.bool)
    for about in record["faces"].values():
        corners = torch.tensor(about["corners"]) * times
        (left, top), (right, bottom) = corners.amin(0).floor().int() - 1, corners.amax(0).ceil().int() + 1
        outside[top:bottom, left:right] = False
    assert torch.equal(pasted[:, outside], background[:, outside])
    # what is in the middle of the square of 32 pixels is the candidate, brought to that size
    seed = read_image(out / "photo_face0" / "seed0001.png").pixels
    found = pasted[:, 50 * times - 20 : 50 * times + 20, 84 * times - 20 : 84 * times + 20]
    large = torch.nn.functional.interpolate(seed[None], (192, 192), mode="bicubic", align_corners=False)[0]
    assert float((found - large[:, 76:116, 76:116]).abs().max()) < 2 / 255
    cost = record["pasted"]["pasted_seed0001.png"]["cost"]
    assert set(cost) == {"photo_face0", "photo_face1"}
    assert all(0 <= each["rms_inside"] < 3 for each in cost.values())
    cases, problems = find_cases(out)  # pasted photos are no candidates
    assert [case.name for case in cases] == ["photo_face0", "photo_face1"]
    assert problems == []


def test_of_picked_candidates_the_first_of_every_face_are_pasted_together(photo, detector, tmp_path):
    out = tmp_path / "out"
    tally = upsample_folder([photo], out, seeds="0-4", pick=2, faces="all", detector=detector)
    assert tally.written == 4
    assert {p.name for p in (out / "photo").glob("*.png")} == {"pasted_pick0000.png", "pasted_pick0001.png"}
    record = json.loads((out / "photo" / "photo.json").read_text())["pasted"]["pasted_pick0001.png"]
    lines = [json.loads(line) for line in (out / "summary.jsonl").read_text().splitlines()]
    picked = {
        stem: [line["seed"] for line in lines if line["input"] == stem] for stem in ("photo_face0", "photo_face1")
    }
    assert record["seeds"] == {stem: seeds[1] for stem, seeds in picked.items()}
    found = preimage.upsample_photo(photo, "0-4", pick=2, detector=detector)
    pasted = found.pasted([each.seeds[1] for each in found.candidates])
    assert float((pasted - read_image(out / "photo" / "pasted_pick0001.png").pixels).abs().max()) < 1 / 255


def test_the_same_command_goes_on_and_pastes_what_is_new(photo, detector, tmp_path):
    out = tmp_path / "out"
    upsample_folder([photo], out, seeds="0", faces="largest", detector=detector)
    first = (out / "photo" / "pasted_seed0000.png").stat().st_mtime_ns
    tally = upsample_folder([photo], out, seeds="0-1", faces="largest", detector=detector)
    assert (tally.written, tally.kept) == (1, 1)
    assert (out / "photo" / "pasted_seed0000.png").stat().st_mtime_ns == first
    assert set(json.loads((out / "photo" / "photo.json").read_text())["pasted"]) == {
        "pasted_seed0000.png",
        "pasted_seed0001.png",
    }
    (out / "photo" / "photo.json").write_text("{")  # a damaged record is made again
    upsample_folder([photo], out, seeds="0-1", faces="largest", detector=detector)
    assert len(json.loads((out / "photo" / "photo.json").read_text())["pasted"]) == 2
    with pytest.raises(InputError, match=r"faces.*differ"):
        upsample_folder([photo], out, seeds="0", faces="all", detector=detector)
    with pytest.raises(InputError, match="differ"):
        upsample_folder([EXAMPLE], out, seeds="0", points=[[1, 2], [5, 2], [3, 4], [2, 6], [4, 7]])


def test_a_photo_without_faces_fails_alone(photo, detector, tmp_path):
    save_png(tmp_path / "wall.png", torch.full((3, 50, 70), 0.5))
    (tmp_path / "text.png").write_text("no picture")
    tally = upsample_folder(
        [tmp_path / "wall.png", tmp_path / "text.png", photo],
        tmp_path / "out",
        seeds="0",
        faces="all",
        detector=detector,
    )
    assert tally.written == 2
    assert [problem.split(":")[0] for problem in tally.problems] == [
        str(tmp_path / n) for n in ("wall.png", "text.png")
    ]
    assert "--points" in tally.problems[0]
    assert (tmp_path / "out" / "photo" / "pasted_seed0000.png").is_file()
    assert not (tmp_path / "out" / "wall").exists()


def test_a_face_never_shares_the_folder_of_another_photo(photo, detector, tmp_path):
    other = tmp_path / "photo_face0.png"
    other.write_bytes(photo.read_bytes())
    tally = upsample_folder([photo, other], tmp_path / "out", seeds="0", faces="all", detector=detector)
    assert tally.written == 2
    assert len(tally.problems) == 1
    assert tally.problems[0].startswith(f"{photo}: its face would be called photo_face0")
    assert {p.name for p in (tmp_path / "out").iterdir() if p.is_dir()} == {
        "photo_face0",
        "photo_face0_face0",
        "photo_face0_face1",
    }


def test_reduced_faces_answer_to_fewer_pixels(photo, detector, tmp_path):
    upsample_folder([photo], tmp_path / "out", seeds="0", faces="all", reduce=12, detector=detector)
    assert verify_folder(tmp_path / "out").exact == 2
    assert Image.open(tmp_path / "out" / "photo_face0" / "input.png").size == (12, 12)


def test_points_by_hand_from_the_command_line(photo, face_at, tmp_path, capsys):
    points = [f"{x:.3f},{y:.3f}" for x, y in face_at(60, 45, 16).points.tolist()]
    words = ["upsample", str(photo), "-o", str(tmp_path / "out"), "-n", "1", "--points", *points]
    assert main(words) == 0
    small = Image.open(photo).crop((52, 37, 68, 53))
    assert small.tobytes() == Image.open(tmp_path / "out" / "photo_face0" / "input.png").tobytes()
    assert verify_folder(tmp_path / "out").exact == 1
    assert "1 face(s) of 16 pixels" in capsys.readouterr().err
    assert main([*words[:-1], "left"]) == 1
    assert "'left' is no point" in capsys.readouterr().err
    assert main([*words, "--aligned"]) == 1
    assert "give one of them" in capsys.readouterr().err
    with pytest.raises(MethodError, match="belong to one photo"):
        upsample_folder([photo, EXAMPLE], tmp_path / "two", points=face_at(60, 45, 16).points.tolist())


def test_without_faces_a_picture_is_a_face_already(photo, tmp_path, capsys):
    words = ["upsample", str(EXAMPLE), str(photo), "-o", str(tmp_path / "out"), "-n", "1", "--aligned"]
    assert main(words) == 1
    assert "--faces all" in capsys.readouterr().err  # what is not square has another way
    assert (tmp_path / "out" / "face0" / "seed0000.png").is_file()
    assert main(["upsample", str(EXAMPLE), "-o", str(tmp_path / "out"), "-n", "2"]) == 0
    shrunk = bicubic(128, lr_size=16).photograph(
        (read_image(tmp_path / "out" / "face0" / "seed0001.png").pixels[None] * 255).byte()
    )
    assert torch.equal(shrunk[0].float() / 255, read_image(EXAMPLE).pixels)
