"""The main job over files and folders: layout, resuming, every kind of bad input, a disk that fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import preimage
from preimage import files, image
from preimage.cli import main
from preimage.degrade.proof import verify
from preimage.files import read_jsonl, read_provenance, read_yaml, to_yaml
from preimage.generate.side_outputs import SideOutputs, SideOutputsConfig
from preimage.image import read_image
from preimage.invert import latent
from preimage.latent_files import load_latents
from preimage.results import ResultFolder, is_whole
from preimage.weight_files import save_prior
from preimage.weights import declaration_of, load_prior, load_side_outputs

QUICK = ["--method", "pulse", "--method.steps", "6", "--device", "cpu"]


@pytest.fixture(scope="module")
def prior(tiny_prior, tmp_path_factory):
    path = tmp_path_factory.mktemp("prior") / "tiny.safetensors"
    save_prior(path, tiny_prior, {"images_seen": 0})
    return str(path)


@pytest.fixture
def face(tiny_lr, tmp_path):
    path = tmp_path / "face.png"
    Image.fromarray((tiny_lr * 255).byte().permute(1, 2, 0).numpy()).save(path)
    return path


def test_one_picture_becomes_a_folder_of_proven_candidates(prior, face, tmp_path, capsys):
    out = tmp_path / "out"
    assert (
        main(["upsample", str(face), "-o", str(out), "--prior", prior, "--seeds", "0-2,7", "--save-latents", *QUICK])
        == 0
    )
    names = sorted(p.name for p in (out / "face").iterdir())
    assert names == ["grid.png", "input.png", "latents0000.safetensors", *[f"seed{s:04d}.png" for s in (0, 1, 2, 7)]]
    lines = read_jsonl(out / "summary.jsonl")
    assert [line["seed"] for line in lines] == [0, 1, 2, 7]
    assert all(line["exact"] and line["error"] == 0 for line in lines)
    for seed in (0, 1, 2, 7):
        saved = out / "face" / f"seed{seed:04d}.png"
        assert verify(saved, face) == (True, 0.0)
        # the oracle: Pillow and nothing of ours
        with Image.open(saved) as large, Image.open(face) as small:
            assert large.resize(small.size, Image.Resampling.BICUBIC).tobytes() == small.tobytes()
        assert read_provenance(saved)["seed"] == str(seed)
    settings = read_yaml(out / "run.yaml")
    assert settings["method"]["name"] == "pulse"
    assert settings["method"]["steps"] == 6
    assert "4 candidates written" in capsys.readouterr().out
    assert main(["verify", str(out)]) == 0
    Image.new("RGB", (16, 16)).save(out / "face" / "seed0001.png")
    assert main(["verify", str(out)]) == 1
    assert "seed0001.png: misses" in capsys.readouterr().err


def test_the_run_says_what_its_network_was_trained_for(prior, face, tmp_path):
    command = ["upsample", str(face), "-o", str(tmp_path / "out")]
    assert main([*command, "-n", "1"]) == 0
    record = tmp_path / "out" / "run.yaml"
    settings = read_yaml(record)
    assert settings["trained_for"] == list(declaration_of("posterior-16to128").degradations)
    record.write_text(to_yaml({key: value for key, value in settings.items() if key != "trained_for"}))
    assert main([*command, "-n", "2"]) == 0  # a folder of an older version is gone on with
    assert read_yaml(record)["trained_for"] == settings["trained_for"]
    assert main(["upsample", str(face), "-o", str(tmp_path / "searched"), "--prior", prior, "-n", "1", *QUICK]) == 0
    assert "trained_for" not in read_yaml(tmp_path / "searched" / "run.yaml")


def test_python_gives_the_same_candidates_as_the_command_line(prior, face, tmp_path):
    out = tmp_path / "out"
    main(["upsample", str(face), "-o", str(out), "--prior", prior, "-n", "2", *QUICK])
    candidates = preimage.upsample(face, range(2), prior=prior, scale=4, method="pulse", steps=6)
    assert candidates.exact.all()
    for i in range(2):
        assert torch.equal(candidates.images[i], read_image(out / "face" / f"seed{i:04d}.png").pixels)


def test_the_same_command_completes_what_is_missing(prior, face, tmp_path, monkeypatch):
    out = tmp_path / "out"
    command = ["upsample", str(face), "-o", str(out), "--prior", prior, *QUICK, "--seeds"]
    assert main([*command, "0-1"]) == 0
    first = (out / "face" / "seed0000.png").stat().st_mtime_ns
    (out / "face" / "seed0001.png").unlink()
    assert main([*command, "0-3"]) == 0
    assert (out / "face" / "seed0000.png").stat().st_mtime_ns == first
    assert {p.name for p in (out / "face").glob("seed*")} == {f"seed{s:04d}.png" for s in range(4)}
    monkeypatch.setattr(latent, "Search", lambda *a, **k: pytest.fail("searched again"))
    before = (out / "summary.jsonl").read_text()
    assert main([*command, "0-3"]) == 0
    assert (out / "summary.jsonl").read_text() == before


def test_a_folder_of_other_settings_or_another_picture_is_not_mixed(prior, face, tmp_path, capsys):
    out = tmp_path / "out"
    command = [
        "upsample",
        str(face),
        "-o",
        str(out),
        "--prior",
        prior,
        "--seeds",
        "0",
        "--device",
        "cpu",
        "--method",
        "pulse",
        "--method.steps",
    ]
    assert main([*command, "3"]) == 0
    assert main([*command, "4"]) == 1
    assert "other settings (method differ)" in capsys.readouterr().err
    assert main([*command, "4", "--overwrite"]) == 0
    assert read_jsonl(out / "summary.jsonl")[0]["steps"] == 4
    Image.new("RGB", (4, 4), (90, 100, 110)).save(face)
    assert main([*command, "4"]) == 1
    assert "candidates of another picture" in capsys.readouterr().err


def test_kinds_of_pictures_that_users_have(prior, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    rng = np.random.default_rng(0)
    grey = Image.fromarray(rng.integers(60, 200, (4, 4), dtype=np.uint8))
    colour = Image.fromarray(rng.integers(60, 200, (4, 4, 3), dtype=np.uint8))
    grey.save(source / "grey.png")
    colour.quantize(8).save(source / "palette.png")
    Image.fromarray(rng.integers(60 * 257, 200 * 257, (4, 4), dtype=np.uint16)).save(source / "deep.png")
    colour.convert("RGBA").save(source / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    colour.save(source / "turned.png", exif=exif)
    colour.resize((5, 5)).save(source / "five.png")
    out = tmp_path / "out"
    assert main(["upsample", str(source), "-o", str(out), "--prior", prior, "--seeds", "0", *QUICK]) == 0
    lines = read_jsonl(out / "summary.jsonl")
    assert {line["input"] for line in lines} == {"grey", "palette", "deep", "alpha", "turned", "five"}
    assert all(line["exact"] for line in lines)
    with Image.open(out / "turned" / "input.png") as turned:
        assert turned.tobytes() == colour.transpose(Image.Transpose.ROTATE_270).tobytes()


BAD = {
    "missing.png": None,
    "empty.png": b"",
    "text.png": b"this is no picture",
    "folder": "folder",
    "wide.png": (20_000, 4),
    "tall.png": (4, 6),
    "dot.png": (1, 1),
    "large.png": (16, 16),
}


def test_bad_inputs_are_reported_and_the_others_go_on(prior, face, tmp_path, capsys):
    source = tmp_path / "in"
    source.mkdir()
    for name, kind in BAD.items():
        if kind == "folder":
            (source / name).mkdir()
        elif isinstance(kind, bytes):
            (source / name).write_bytes(kind)
        elif kind:
            Image.new("RGB", kind, (120, 110, 100)).save(source / name)
    whole = face.read_bytes()
    (source / "truncated.png").write_bytes(whole[: len(whole) // 2])
    inputs = [str(source / name) for name in (*BAD, "truncated.png")]
    out = tmp_path / "out"
    assert main(["upsample", *inputs, str(face), "-o", str(out), "--prior", prior, "--seeds", "0", *QUICK]) == 1
    told = capsys.readouterr().err
    for name in (*BAD, "truncated.png"):
        if name != "dot.png":  # a single pixel is a picture like any other: every face with that mean colour answers it
            assert str(source / name) in told, name
    assert "square" in told
    assert (out / "face" / "seed0000.png").is_file()
    assert {line["input"] for line in read_jsonl(out / "summary.jsonl")} == {"face", "dot"}


def test_a_picture_that_is_too_large_is_not_decoded(prior, tmp_path, monkeypatch, capsys):
    for name, size in (("large.png", (8192, 8192)), ("wide.png", (4096, 4))):
        Image.new("1", size).save(tmp_path / name)
    monkeypatch.setattr(image, "_decode", lambda *_: pytest.fail("decoded"))
    inputs = [str(tmp_path / name) for name in ("large.png", "wide.png")]
    assert (
        main(["upsample", *inputs, "-o", str(tmp_path / "out"), "--prior", prior, "--seeds", "0", "--method", "pulse"])
        == 1
    )
    told = capsys.readouterr().err
    assert "large.png: the picture is 8192x8192, but the prior makes 16x16" in told
    assert "wide.png: the picture is 4096x4" in told
    for name in ("large.png", "wide.png"):
        with Image.open(tmp_path / name) as opened:
            for given in (tmp_path / name, opened):
                with pytest.raises(preimage.PreimageError, match="the picture is"):
                    preimage.upsample(given, "0", prior=prior, method="pulse")


def test_a_corpus_of_damaged_pictures(prior, face, tmp_path, capsys):
    source = tmp_path / "in"
    source.mkdir()
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    for kind in ("png", "jpg", "webp", "gif", "bmp", "tiff", "ppm"):
        picture.save(source / f"whole.{kind}")
        data = (source / f"whole.{kind}").read_bytes()
        for i, at in enumerate(rng.integers(0, len(data), 12)):
            (source / f"cut{i}.{kind}").write_bytes(data[:at])
            flipped = bytearray(data)
            flipped[at] ^= int(rng.integers(1, 256))
            (source / f"flip{i}.{kind}").write_bytes(bytes(flipped))
    count = len(list(source.iterdir()))
    out = tmp_path / "out"
    command = [
        "upsample",
        str(source),
        str(face),
        "-o",
        str(out),
        "--prior",
        prior,
        "--seeds",
        "0",
        "--method",
        "bicubic",
    ]
    assert main(command) == 1
    told = capsys.readouterr().err
    failed = [line for line in told.splitlines() if line.startswith("preimage: ")][:-1]
    made = {line["input"] for line in read_jsonl(out / "summary.jsonl")}
    assert len(failed) + len(made) == count + 1
    assert all(str(source) in line for line in failed)
    assert "face" in made
    assert {f"whole-{kind}" for kind in ("png", "bmp", "gif")} <= made
    assert all(is_whole(out / name / "seed0000.png", 16) for name in made)
    assert not list(out.rglob(".*"))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.full((3, 4, 4), float("nan")), "NaN or infinity.*replace them"),
        (torch.linspace(0, 255, 48).view(3, 4, 4), "0 to 255: divide by 255"),
        (torch.linspace(-1, 1, 48).view(3, 4, 4), r"\[-1, 1\]: use \(x \+ 1\) / 2"),
        (torch.zeros(3, 0, 4), "no pixels"),
        (np.zeros((2, 2, 2, 2, 2)), "is not a picture; give"),
    ],
)
def test_bad_tensors_are_refused_with_a_reason(prior, value, words):
    with pytest.raises(preimage.PreimageError, match=words):
        preimage.upsample(value, "0", prior=prior, method="pulse", steps=2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": float("nan")}, {"scale": float("inf")}, {"scale": "4"}, {"steps": 2.5}, {"steps": "x"}, {"steps": True},
        {"method": 5}, {"seeds": None}, {"eps": float("inf")}, {"trainable_noise": -5},
    ],
)  # fmt: skip
def test_values_of_another_kind_are_refused(prior, tiny_lr, wrong):
    with pytest.raises(preimage.PreimageError):
        preimage.upsample(tiny_lr, **{"seeds": "0", "prior": prior, "device": "cpu", "method": "pulse", **wrong})


def test_a_large_array_is_refused_by_its_shape(prior, monkeypatch):
    monkeypatch.setattr(image, "array_values", lambda *_: pytest.fail("converted"))
    for large in (np.zeros((3000, 3000, 3), np.uint8), torch.zeros(1, 3, 3000, 3000, dtype=torch.uint8)):
        with pytest.raises(preimage.PreimageError, match="the picture is 3000x3000"):
            preimage.upsample(large, "0", prior=prior, method="pulse")


def test_a_full_disk_stops_with_a_message_and_loses_nothing(prior, face, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    command = ["upsample", str(face), "-o", str(out), "--prior", prior, "--seeds", "0-3", "--batch", "1", *QUICK]
    original, count = os.replace, 0

    def full(source, target):
        nonlocal count
        if str(target).endswith(".png") and "seed" in str(target):
            count += 1
            if count == 3:
                raise OSError(28, "No space left on device")
        return original(source, target)

    monkeypatch.setattr(files.os, "replace", full)
    assert main(command) == 1
    assert "space" in capsys.readouterr().err.lower()
    monkeypatch.setattr(files.os, "replace", original)
    left = sorted(p.name for p in (out / "face").iterdir())
    assert left == ["input.png", "seed0000.png", "seed0001.png"]
    assert main(command) == 0
    assert len(read_jsonl(out / "summary.jsonl")) == 4


def test_an_output_that_cannot_be_made(prior, face, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    assert (
        main(["upsample", str(face), "-o", str(tmp_path / "taken" / "out"), "--prior", prior, "--seeds", "0", *QUICK])
        == 1
    )
    assert "-o" in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_written_and_the_same_command_goes_on(prior, face, tmp_path):
    out = tmp_path / "out"
    args = [
        "upsample",
        str(face),
        "-o",
        str(out),
        "--prior",
        prior,
        "--seeds",
        "0-39",
        "--batch",
        "1",
        "--method",
        "pulse",
        "--method.steps",
        "40",
    ]
    command = [sys.executable, "-m", "preimage.cli", *args, "--device", "cpu"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # a shell's background job ignores Ctrl-C and hands that on to its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    waited = time.monotonic()
    while not (out / "face" / "seed0001.png").exists():
        assert time.monotonic() - waited < 120
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "same command goes on" in told
    assert "Traceback" not in told
    lines = read_jsonl(out / "summary.jsonl")
    assert 1 <= len(lines) < 40
    for line in lines:
        assert verify(out / "face" / line["file"], face)[0]
    assert not list(out.rglob("*.tmp*"))


def test_variants_share_the_latent_and_are_exact(prior, face, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["upsample", str(face), "-o", str(out), "--prior", prior, "--seeds", "3"]
    assert main([*command, "--variants", "2", *QUICK]) == 0
    assert {p.name for p in (out / "face").glob("*noise*")} == {"seed0003_noise0000.png", "seed0003_noise0001.png"}
    assert main(["verify", str(out)]) == 0
    assert main([*command, "--variants", "3", *QUICK]) == 0  # asked for later: only added
    assert len(list((out / "face").glob("*noise*"))) == 3
    assert main([*command, "--device", "cpu", "--method", "bicubic", "--variants", "1", "--overwrite"]) == 1
    assert "nothing to draw anew" in capsys.readouterr().err


def test_smaller_pictures_beside_each_candidate(prior, tiny_prior, face, tmp_path):
    out = tmp_path / "out"
    command = ["upsample", str(face), "-o", str(out), "--prior", prior, "--seeds", "0-1", *QUICK]
    assert main([*command, "--variants", "1", "--save-latents", "--side-outputs"]) == 0
    seeds = ["seed0000", "seed0000_noise0000", "seed0001", "seed0001_noise0000"]
    wanted = {f"side{side}_{seed}.png" for side in (4, 8) for seed in seeds}
    assert {p.name for p in (out / "face").glob("side*")} == wanted
    kept = load_latents(out / "face" / "latents0000.safetensors", (0, 1))
    drawn = load_prior(prior).side_outputs(kept["latents"], [kept[f"noise{i}"] for i in range(5)])
    for side in (4, 8):
        saved = read_image(out / "face" / f"side{side}_seed0001.png").pixels
        assert saved.shape == (3, side, side)
        assert (saved - drawn[side][1].clamp(0, 1)).abs().max() < 1 / 255
    notes = read_provenance(out / "face" / "side8_seed0001.png")
    assert (notes["side_output_of"], notes["prior"], notes["seed"]) == ("seed0001.png", "tiny", "1")
    assert "exact" not in notes
    assert main(["verify", str(out)]) == 0  # they are no candidates
    assert len(read_jsonl(out / "summary.jsonl")) == 4
    assert main([*command, "--variants", "1"]) == 0  # the folder is gone on with, and nothing is made


def test_learned_branches_draw_the_smaller_pictures_and_lead_coarse_steps(prior, face, tmp_path, capsys):
    loaded, out = load_prior(prior), tmp_path / "out"
    branches = SideOutputs(SideOutputsConfig(16, (4, 8), (16, 16), (6, 5)), "branches")
    save_prior(tmp_path / "branches.safetensors", branches, {}, bound_to=loaded)
    command = ["upsample", str(face), "-o", str(out), "--prior", prior, "-n", "1", *QUICK, "--method.coarse", "0.5"]
    learned = ["--branches", str(tmp_path / "branches.safetensors"), "--save-latents", "--side-outputs"]
    assert main([*command, *learned]) == 0
    kept = load_latents(out / "face" / "latents0000.safetensors", (0,))
    loaded.attach(load_side_outputs(tmp_path / "branches.safetensors", loaded))
    drawn = loaded.side_outputs(kept["latents"], [kept[f"noise{i}"] for i in range(5)], largest=8)
    saved = read_image(out / "face" / "side8_seed0000.png").pixels
    assert (saved - drawn[8][0].clamp(0, 1)).abs().max() < 1 / 255
    method = read_yaml(out / "run.yaml")["method"]
    assert (method["coarse"], method["side_outputs"]) == (0.5, "branches")
    assert len(method["side_outputs_sha256"]) == 16
    assert main(command) == 1  # others would lead the steps
    assert "other settings (method differ)" in capsys.readouterr().err
    other = ["upsample", str(face), "-o", str(tmp_path / "other"), "--prior", "faces64", *learned[:2], *QUICK]
    assert main(other) == 1
    assert "belongs to the prior tiny" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--method", "bicubic", "--side-outputs"], "bicubic draws no smaller pictures here"),
        (
            ["--method", "bicubic", "--branches", "b.safetensors"],
            "bicubic has no prior whose blocks could have branches",
        ),
        (["--method", "pulse", "--prior", "progan-faces64", "--side-outputs"], "pulse draws no smaller pictures here"),
        (["--method", "pulse", "--branches", "b.safetensors"], "b.safetensors: neither an embedded side-output"),
    ],
)
def test_who_draws_no_smaller_pictures(face, tmp_path, capsys, more, told):
    assert main(["upsample", str(face), "-o", str(tmp_path / "out"), *more]) == 1
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_models_are_listed_and_shown(prior, capsys):
    assert main(["models", "list"]) == 0
    assert "faces64" in capsys.readouterr().out
    assert main(["models", "show", prior]) == 0
    assert "architecture: stylegan2" in capsys.readouterr().out
    assert main(["models", "show", "nothing"]) == 1
    assert "neither an embedded prior" in capsys.readouterr().err


def test_a_reader_that_stops_early_gets_no_traceback():
    """As in `preimage models list | head -1`."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "preimage.cli", "models", "list"]
    with os.fdopen(write, "w") as closed:
        process = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, timeout=120)
    assert process.returncode == 141
    assert process.stderr == ""


def test_wrong_options_say_so(face, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["upsample", str(face), "-o", str(tmp_path / "o"), "--method.stepz", "3"])
    assert end.value.code == 2
    assert main(["upsample", str(face), "-o", str(tmp_path / "o"), "--seeds", "7-0"]) == 1
    assert main(["upsample", str(face), "-o", str(tmp_path / "o"), "--method", "magic"]) == 1
    assert main(["upsample", str(face), "-o", str(tmp_path / "o"), "--batch", "0"]) == 1
    assert main(["upsample", str(face), "-o", str(tmp_path / "o"), "--variants", "-1"]) == 1
    assert (
        main(["upsample", str(face), "-o", str(tmp_path / "o"), "--degradation", "magic", "--method", "bicubic"]) == 1
    )
    assert "choose one of" in capsys.readouterr().err


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "run.yaml").write_text("{[")
    with pytest.raises(preimage.PreimageError, match=r"run\.yaml"):
        ResultFolder.open(tmp_path, {"method": 1})
    (tmp_path / "run.yaml").write_text(json.dumps({"method": 1}))
    assert ResultFolder.open(tmp_path, {"method": 1}).missing("x", [0]) == [0]
    assert Path(tmp_path / "run.yaml").is_file()
