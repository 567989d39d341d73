"""The public face: which names there are, what importing costs, what must never be installed."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import preimage
from preimage.cli import main

NAMES = [
    "Candidates", "LinearOperator", "PreimageError", "__version__", "list_methods", "list_weights", "load", "load_prior",
    "make_operator", "upsample",
]  # fmt: skip
HEAVY = [
    "PIL",
    "accelerate",
    "huggingface_hub",
    "jsonargparse",
    "safetensors",
    "scipy",
    "skimage",
    "torchmetrics",
    "torchvision",
    "tqdm",
    "yaml",
]


def test_the_public_names_do_not_change_by_accident():
    assert sorted(preimage.__all__) == NAMES
    assert all(hasattr(preimage, name) for name in NAMES)
    assert dir(preimage) == NAMES


def test_importing_loads_torch_and_numpy_and_nothing_heavier():
    probe = (
        "import torch, numpy, sys; before = set(sys.modules); import preimage; "
        f"print([m for m in {HEAVY!r} if m in set(sys.modules) - before])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_upsampling_path_needs_no_training_library():
    probe = (
        "import sys, preimage; preimage.load('pulse'); "
        "print([m for m in ('accelerate', 'torchmetrics', 'torchvision', 'scipy', 'jsonargparse') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_torchvision_is_not_installed():
    # its mere presence breaks torchmetrics beside a CPU build of torch
    assert "torchvision" not in {
        d.metadata["Name"].lower() for d in importlib.metadata.distributions() if d.metadata["Name"]
    }


def test_a_command_without_its_extra_says_what_to_install(monkeypatch, capsys, tmp_path):
    for name in [m for m in sys.modules if m.startswith(("torchmetrics", "preimage.measure"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    assert main(["evaluate", str(tmp_path)]) == 1
    assert 'pip install "preimage[measure]"' in capsys.readouterr().err
