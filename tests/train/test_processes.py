"""What happens around a run: two processes share it, and a killed one goes on by the same command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

STYLEGAN2 = {
    "network": "stylegan2",
    "generator": {
        "resolution": 16, "channel_base": 128, "channel_max": 8, "z_dim": 8, "w_dim": 8, "mapping_layers": 2,
    },
    "discriminator": {"channel_base": 64, "channel_max": 8, "r1_every": 2},
    "batch": 4,
    "path_length": 2.0,
    "augment": ["ada-blit", "ada-colour"],
    "augment_probability": 0.0,
    "ada_target": 0.6,
    "ada_every": 1,
}  # fmt: skip
PROGAN = {
    "network": "progan",
    "generator": {"resolution": 16, "channel_base": 64, "channel_max": 8, "z_dim": 8},
    "batches": [4, 4, 4],
}
ENVIRONMENT = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def written(folder: Path, faces: Path, recipe: dict) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe | {"out": str(folder / "run"), "data": [str(faces)], "name": "tiny"}))
    return path


def command(recipe: Path, processes: int = 1) -> list[str]:
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    )
    return [sys.executable, *launcher, "-m", "preimage.cli", "train", str(recipe)]


def lines(recipe: Path) -> list[dict[str, float]]:
    stats = recipe.parent / "run" / "stats.jsonl"
    return [json.loads(line) for line in stats.read_text().splitlines()] if stats.is_file() else []


@pytest.mark.parametrize(
    "settings",
    [STYLEGAN2 | {"images": 16, "snapshot": 8, "log": 4}, PROGAN | {"images": [4, 8, 8], "snapshot": 8, "log": 4}],
    ids=["stylegan2", "progan"],
)
def test_two_processes_share_a_run(settings, tmp_path, faces):
    """Pictures are counted over both, and one of them writes."""
    recipe = written(tmp_path, faces, settings)
    done = subprocess.run(command(recipe, 2), env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    total = settings["images"] if isinstance(settings["images"], int) else sum(settings["images"])
    assert [line["images"] for line in lines(recipe)] == list(range(4, total + 1, 4))
    assert done.stdout.count("images 4 ") == 1
    run = recipe.parent / "run"
    assert sorted(p.name for p in (run / "state").glob("random_states_*")) == [
        "random_states_0.pkl",
        "random_states_1.pkl",
    ]
    exported = load_file(run / "prior.safetensors")
    assert all(bool(value.isfinite().all()) for value in exported.values())


def test_a_killed_run_loses_at_most_one_interval_of_snapshots(tmp_path, faces):
    recipe = written(tmp_path, faces, STYLEGAN2 | {"images": 100_000, "snapshot": 8, "log": 4})
    state = recipe.parent / "run" / "state"
    process = subprocess.Popen(command(recipe), env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (state.is_dir() and len(lines(recipe)) >= 3):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = [int(line["images"]) for line in lines(recipe)]
    assert len(before) >= 3, "the run did not come so far within two minutes"
    saved = before[-1] // 8 * 8
    text = recipe.read_text().replace("images: 100000", f"images: {saved + 24}")
    recipe.write_text(text)
    done = subprocess.run(command(recipe), env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    after = [int(line["images"]) for line in lines(recipe)][len(before) :]
    assert before[-1] - (after[0] - 4) <= 8  # what is shown again
    assert after == list(range(after[0], saved + 25, 4))
