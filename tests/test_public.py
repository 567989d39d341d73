"""The public face: which names there are, what importing costs, what must never be installed."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import preimage
from preimage.cli import main
from preimage.train.recipes import list_recipes, recipe_summary

ROOT = Path(__file__).parents[1]

NAMES = [
    "Candidates", "Explorer", "LinearOperator", "PreimageError", "__version__", "explore", "list_methods", "list_weights",
    "load", "load_prior", "make_operator", "open_directions", "pick", "upsample", "upsample_photo",
]  # fmt: skip
HEAVY = [
    "PIL",
    "accelerate",
    "huggingface_hub",
    "jinja2",
    "jsonargparse",
    "matplotlib",
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


@pytest.mark.parametrize("package", ["torchmetrics", "jinja2", "matplotlib"])
def test_a_command_without_its_extra_says_what_to_install_before_it_measures(package, monkeypatch, capsys, tmp_path):
    for name in [m for m in sys.modules if m.startswith((package, "preimage.measure"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["evaluate", str(tmp_path)]) == 1  # an empty folder: measuring would complain of that
    error = capsys.readouterr().err
    assert f"needs {package}, which is not installed" in error
    assert 'pip install "preimage[measure]"' in error


# ------------------------------------------------------------------------------------------------------------- wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """What `pip wheel .` builds, without the network that an isolated build needs."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_recipes_weights_and_the_mark_of_its_types(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert list_recipes()
    assert {"preimage/py.typed", "preimage/pretrained/table.json"} <= names
    assert {f"preimage/recipes/{name}.yaml" for name in list_recipes()} <= names
    package = ROOT / "src" / "preimage"
    ours = {p.relative_to(package.parent).as_posix() for p in package.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    assert {name for name in names if name.startswith("preimage/")} == ours


def test_the_wheel_with_core_dependencies_alone_explores_proves_and_shows_recipes(wheel, tmp_path):
    """In an empty folder, no repository in sight and no package of any extra."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    work = tmp_path / "work"
    work.mkdir()
    shutil.copy(ROOT / "examples" / "face0.png", work)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    absent = {re.split(r"[\[>=]", package)[0].replace("-", "_") for packages in extras.values() for package in packages}
    assert "accelerate" in absent
    by_network = {recipe_summary(name)[0]: name for name in list_recipes()}
    commands = [
        ["upsample", "face0.png", "-o", "out", "--seeds", "0"],
        ["upsample", "face0.png", "-o", "searched", "--seeds", "0", "--method", "pulse", "--method.steps", "20"],
        ["verify", "out"],
        ["recipes", "list"],
        *(["recipes", "show", name] for name in list_recipes()),
        *(["train", name, "--dry-run"] for name in by_network.values()),
    ]
    probe = f"""
import json, sys
sys.modules |= dict.fromkeys({sorted(absent - {"preimage"})!r} + ["skimage"])
sys.path.insert(0, {str(tmp_path / "site")!r})
import preimage
from preimage.cli import main
status = [main(words) for words in {commands!r}]
print("\\n" + json.dumps([preimage.__file__, status, main(["train", "prior-faces64"])]))
"""
    done = subprocess.run([sys.executable, "-c", probe], cwd=work, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    where, status, training = json.loads(done.stdout.splitlines()[-1])
    assert Path(where).is_relative_to(tmp_path)
    assert status == [0] * len(commands), done.stderr
    assert training == 1
    assert 'pip install "preimage[train]"' in done.stderr
