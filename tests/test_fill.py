"""Folders of photos: the same files as one by one, full batches, one bad photo, an end in the middle, sizes, few photos open."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from preimage.degrade.linear import bicubic
from preimage.degrade.proof import verify
from preimage.errors import MethodError
from preimage.files import read_jsonl, save_png
from preimage.fill import Silent
from preimage.image import read_image
from preimage.invert.listener import Stop
from preimage.invert.pulse import Pulse
from preimage.invert.search import Search
from preimage.latent_files import load_latents
from preimage.upsampling import upsample_folder
from preimage.weight_files import save_prior

CONTROLS = {"steps": 30, "stop": 6e-3, "eps": 1e-4}


@pytest.fixture(scope="module")
def prior(tiny_prior, tmp_path_factory):
    path = tmp_path_factory.mktemp("prior") / "tiny.safetensors"
    save_prior(path, tiny_prior, {"images_seen": 0})
    return str(path)


@pytest.fixture
def source(tiny_prior, tmp_path) -> Path:
    """Seven photos of 4 pixels, named so that they come in order."""
    folder = tmp_path / "in"
    folder.mkdir()
    small = bicubic(16, lr_size=4)(tiny_prior.sample(range(100, 107)))
    for i, lr in enumerate((small.clamp(0, 1) * 255).round() / 255):
        save_png(folder / f"p{i}.png", lr)
    return folder


@pytest.fixture
def run(prior, source, tmp_path):
    def run(out="out", **options):
        options = {"method": "pulse", "batch": 3, "seeds": "0-1", "controls": CONTROLS, **options}
        return upsample_folder([source], tmp_path / out, prior=prior, device="cpu", threads=1, **options)

    return run


class Watch(Silent):
    """Remembers what it is told; stops the run after so many steps."""

    def __init__(self, most: int = 1 << 30) -> None:
        self.steps, self.said, self.most = [], [], most

    def step(self, step):
        self.steps.append(step)
        if len(self.steps) >= self.most:
            raise Stop

    def say(self, text):
        self.said.append(text)


def pictures(out: Path) -> dict[str, torch.Tensor]:
    return {str(p.relative_to(out)): read_image(p).pixels for p in sorted(out.glob("*/seed*.png"))}


def test_a_folder_in_batches_is_the_folder_one_by_one(run, source, tmp_path):
    watch = Watch()
    together, alone = run("together", progress=watch, variants=1), run("alone", batch=1, variants=1)
    assert together.written == alone.written == together.exact == 14
    assert together.problems == alone.problems == []
    assert max(len(step.seeds) for step in watch.steps) == 3
    one, two = pictures(tmp_path / "together"), pictures(tmp_path / "alone")
    assert one.keys() == two.keys()
    assert len(one) == 28
    assert all(float((one[name] - two[name]).abs().max()) <= 2.01 / 255 for name in one)
    lines = [
        {(line["input"], line["file"]): line["steps"] for line in read_jsonl(tmp_path / out / "summary.jsonl")}
        for out in ("together", "alone")
    ]
    assert lines[0] == lines[1]
    for name in one:
        assert verify(tmp_path / "together" / name, source / f"{Path(name).parent.name}.png")[0]
    assert all((tmp_path / "together" / f"p{i}" / "grid.png").is_file() for i in range(7))
    assert all(line["seconds"] > 0 for line in read_jsonl(tmp_path / "together" / "summary.jsonl"))


def test_a_bad_photo_among_good_ones_fails_alone(run, source, tmp_path):
    (source / "p2.png").write_bytes(b"no picture")
    (tmp_path / "out" / "p4" / "seed0001.png").mkdir(parents=True)
    watch = Watch()
    tally = run(progress=watch)
    assert len(tally.problems) == 2
    assert any("p2.png" in text for text in tally.problems)
    assert any("p4" in text and "cannot be written (is a folder)" in text for text in tally.problems)
    assert [text.removeprefix("preimage: ") for text in watch.said] == tally.problems
    done = {(line["input"], line["seed"]) for line in read_jsonl(tmp_path / "out" / "summary.jsonl")}
    assert {(f"p{i}", seed) for i in (0, 1, 3, 5, 6) for seed in (0, 1)} <= done
    assert ("p4", 1) not in done


def test_a_batch_that_fails_is_answered_photo_by_photo(run, source, tmp_path, monkeypatch):
    wrong, original, widths = read_image(source / "p3.png").pixels, Search.step, []

    def step(search):
        widths.append(len(search.rows))
        if any(torch.equal(row.ask.problem.lr, wrong) for row in search.rows):
            raise MethodError("not this one")
        return original(search)

    monkeypatch.setattr(Search, "step", step)
    tally = run(seeds="0")
    assert tally.problems == [f"{source / 'p3.png'}: not this one"]
    assert {line["input"] for line in read_jsonl(tmp_path / "out" / "summary.jsonl")} == {
        f"p{i}" for i in (0, 1, 2, 4, 5, 6)
    }
    assert tally.written == 6
    assert max(widths) == 3


def test_sizes_may_be_mixed(run, source, tmp_path):
    for i in (1, 2, 5):
        save_png(source / f"p{i}.png", torch.full((3, 5, 5), 0.4).mul(255).round() / 255)
    tally = run(seeds="0")
    assert (tally.written, tally.exact, tally.problems) == (7, 7, [])


def test_few_photos_are_open_at_a_time(run, monkeypatch):
    opened, done, most = [], [], []
    original = Pulse.pose
    monkeypatch.setattr(Pulse, "pose", lambda self, *a, **k: (opened.append(1), original(self, *a, **k))[1])

    class Counting(Watch):
        def done(self, made, kept=0):
            done.extend([1] * made)
            most.append(len(opened) - len(done))

    run(seeds="0", progress=Counting())
    assert len(opened) == len(done) == 7
    assert max(most) <= 3


def test_a_method_that_knows_one_photo_at_a_time_goes_through_a_folder(run, tmp_path):
    tally = run(method="toy:Toy", controls={}, variants=1, progress=Watch())
    assert (tally.written, tally.problems) == (14, [])
    lines = read_jsonl(tmp_path / "out" / "summary.jsonl")
    assert [line["input"] for line in lines] == [f"p{i}" for i in range(7) for _ in range(4)]


def test_a_stop_keeps_what_runs_and_begins_nothing_else(run, tmp_path):
    tally = run(progress=Watch(4), controls={"steps": 30, "stop": 0.0})
    assert tally.written == 3
    lines = read_jsonl(tmp_path / "out" / "summary.jsonl")
    assert [(line["input"], line["seed"], line["steps"]) for line in lines] == [
        ("p0", 0, 4),
        ("p0", 1, 4),
        ("p1", 0, 4),
    ]
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_dir()) == ["p0", "p1"]
    assert (tmp_path / "out" / "p1" / "grid.png").is_file()


def test_latents_of_a_photo_are_one_file_from_which_it_goes_on(run, tmp_path):
    run(latents=True, seeds="4,0,2")
    for i in range(7):
        assert [p.name for p in (tmp_path / "out" / f"p{i}").glob("latents*")] == ["latents0004.safetensors"]
    file = tmp_path / "out" / "p3" / "latents0004.safetensors"
    assert len(load_latents(file, [0, 2, 4])["latents"]) == 3
    tally = run("further", at=file, seeds="2,4", controls={"steps": 2})
    assert tally.written == 14
    with pytest.raises(MethodError, match="cannot go on from latents"):
        run("toy", method="toy:Toy", controls={}, at=file, seeds="2,4")
    assert not (tmp_path / "toy").exists()


def test_a_folder_whose_run_was_killed_is_completed(run, prior, source, tmp_path):
    out = tmp_path / "out"
    settings = {"steps": 400, "stop": 0.0}
    command = [
        sys.executable, "-m", "preimage.cli", "upsample", str(source), "-o", str(out), "--prior", prior, "--seeds", "0-1",
        "--device", "cpu", "--batch", "3", "--threads", "1", "--method", "pulse", "--save-latents",
        *(f"--method.{name}={value}" for name, value in settings.items()),
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    began = time.monotonic()
    while not (out / "p1" / "seed0000.png").is_file():
        assert time.monotonic() - began < 240
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = (out / "summary.jsonl").read_text()
    kept = [json.loads(line) for line in before.splitlines()]
    assert 0 < len(kept) < 14
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    lines = read_jsonl(out / "summary.jsonl")
    assert lines[: len(kept)] == kept
    assert len({(line["input"], line["file"]) for line in lines}) == len(lines) == 14
    for line in lines:
        assert verify(out / line["input"] / line["file"], source / f"{line['input']}.png")[0]
    for i in range(7):
        held = [json.loads(seeds) for seeds in map(_seeds, (out / f"p{i}").glob("latents*"))]
        assert sorted(seed for seeds in held for seed in seeds) == [0, 1]


def _seeds(path: Path) -> str:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return file.metadata()["seeds"]
