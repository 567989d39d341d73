"""Weights are data: they come back, they say what they are, and nothing in a file is ever executed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from preimage import weights as module
from preimage.errors import WeightsError
from preimage.generate.own import MEMBERS
from preimage.generate.prior import Prior
from preimage.weight_files import Architecture, read_metadata, save_prior, sha256
from preimage.weights import (
    FAMILIES,
    FOLDER,
    WeightEntry,
    default_degradation,
    default_prior,
    describe_weights,
    list_weights,
    load_degradation,
    load_prior,
    weight_table,
)


@pytest.fixture
def path(tmp_path, tiny_prior) -> Path:
    save_prior(tmp_path / "prior.safetensors", tiny_prior, {"images_seen": 123})
    return tmp_path / "prior.safetensors"


def test_module_that_is_no_prior(path, monkeypatch):
    monkeypatch.setattr(Architecture, "__call__", lambda *_: torch.nn.Linear(1, 1))
    with safe_open(str(path), "pt") as file:
        metadata = file.metadata()
    save_file({"weight": torch.zeros(1, 1), "bias": torch.zeros(1)}, path, metadata)
    with pytest.raises(WeightsError, match="holds a Linear, which is not a prior"):
        load_prior(path)


def test_unknown_name_lists_what_there_is(monkeypatch):
    with pytest.raises(WeightsError, match=r"faces9000: neither an embedded prior \(.*\) nor a file"):
        load_prior("faces9000")


# ---------------------------------------------------------------------------------------------------------------- hub


def test_hub_name_is_fetched(path, monkeypatch):
    asked = []

    def download(repo, file):
        asked.append((repo, file))
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert load_prior("hf-hub:someone/faces").name == "tiny"
    load_prior("hf-hub:someone/faces/deep/other.safetensors")
    assert asked == [("someone/faces", "prior.safetensors"), ("someone/faces", "deep/other.safetensors")]


def test_hub_offline(monkeypatch):
    def offline(*_):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(
        WeightsError, match=r"hf-hub:a/b: prior\.safetensors of a/b could not be .*ConnectionError.*by hand"
    ):
        load_prior("hf-hub:a/b")


# -------------------------------------------------------------------------------------------------------------- table


def entry_of(path: Path, digest: str) -> WeightEntry:
    return WeightEntry("mine", str(path), "prior", digest, "MIT", "a test", "r.yaml", 0)


def test_sha256_is_checked(path, monkeypatch):
    table = {"mine": entry_of(path, sha256(path))}
    monkeypatch.setattr(module, "weight_table", lambda: table)
    assert list_weights() == ["mine"]
    assert default_prior() == "mine"
    assert load_prior().name == load_prior("mine").name == "tiny"
    assert "licence: MIT" in describe_weights("mine")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match=r"prior\.safetensors: does not have the recorded sha256"):
        load_prior("mine")
    path.unlink()
    with pytest.raises(WeightsError, match=r"missing\. Reinstall preimage"):
        load_prior("mine")


def test_embedded_table_is_consistent():
    if not (FOLDER / "table.json").is_file():
        pytest.skip("no embedded weights in this checkout")
    rows = json.loads((FOLDER / "table.json").read_text())
    assert len({row["name"] for row in rows}) == len(rows)
    for name, entry in weight_table().items():
        assert entry.name == name
        assert entry.path.parent == FOLDER
        assert sha256(entry.path) == entry.sha256
        assert entry.path.stat().st_size <= 25 * 2**20
        # nobody's folders: a name, or an archive and one folder inside it
        assert all(re.fullmatch(r"[^/]+(?<!\.zip)|[^/]+\.zip(/[^/.]+)?", source) for source in entry.data)
        if entry.kind != "prior":
            continue
        about = read_metadata(entry.path)
        assert about["licence"] == entry.licence
        assert about["trained"]["images_seen"] == entry.images_seen
        assert tuple(about["trained"].get("data", entry.data)) == entry.data
    assert weight_table()[default_prior()].kind == "prior"
    files = {p.name for p in FOLDER.iterdir() if p.suffix in (".safetensors", ".npz")}
    assert files == {e.file for e in weight_table().values()}


def test_embedded_priors_load_and_sample():
    if not (FOLDER / "table.json").is_file():
        pytest.skip("no embedded weights in this checkout")
    priors = [name for name, entry in weight_table().items() if entry.kind == "prior"]
    assert priors
    for name in priors:
        picture = load_prior(name).sample([0])
        assert bool(torch.isfinite(picture).all())
        assert float(picture.std()) > 0.05


def test_what_is_no_prior_is_not_loaded_as_one():
    with pytest.raises(WeightsError, match="kind 'niqe', not a prior"):
        load_prior("niqe-faces64")
    assert "kind: niqe" in describe_weights("niqe-faces64")


def test_embedded_degradations_load_and_degrade():
    names = [name for name, entry in weight_table().items() if entry.kind == "degradation"]
    if not names:
        pytest.skip("no embedded degradation in this checkout")
    assert default_degradation() == names[0]
    for name in names:
        model = load_degradation(name)
        small = model(torch.rand(1, 3, model.hr_size, model.hr_size), model.noise([0]))
        assert small.shape == (1, 3, model.lr_size, model.lr_size)
        assert float(small.std()) > 0.01
        with pytest.raises(WeightsError, match="kind 'degradation', not a prior"):
            load_prior(name)
    assert load_degradation().name == load_degradation("degradation-gan").name == names[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_degradations_are_named_without_their_sizes(family):
    embedded = [n for n, e in weight_table().items() if e.kind == "degradation" and n.startswith(family)]
    if embedded:
        assert load_degradation(family).name == embedded[0]
    else:
        with pytest.raises(WeightsError, match=f"no network of {family} is embedded. Give the path of one"):
            load_degradation(family)


# ---------------------------------------------------------------------------------------------------------------- own

OWN = """
import torch
from torch import nn

class Own(nn.Module):
    name, resolution, latent_shape, spaces, noise_sizes = "own", 8, (1, 4), ("Z",), (8,)

    def __init__(self, channels=3, height=8):
        super().__init__()
        self.channels, self.height = channels, height
        self.weight = nn.Parameter(torch.ones(4))
        self.mean_latent = torch.zeros(4)
        self.gaussian_fit = torch.zeros(4), torch.ones(4)

    def synthesize(self, latents, noise=None):
        value = (latents[:, 0] * self.weight).sum(1)[:, None, None, None] + noise[0]
        return value[:, :, : self.height].expand(-1, self.channels, -1, -1)

    def sample(self, seeds, truncation=1.0):
        return torch.zeros(len(seeds), 3, 8, 8)

class Nested:
    Inner = Own

class Lacking(nn.Module):
    name, resolution, latent_shape, spaces, noise_sizes = "own", 8, (1, 4), ("Z",), ()
    gaussian_fit = torch.zeros(4), torch.ones(4)
    def synthesize(self, latents, noise=None): ...

class Wants(Own):
    def __init__(self, path):
        super().__init__()

class Silent(Own):
    def synthesize(self, latents, noise=None):
        return super().synthesize(latents.detach(), noise)

class Raising(Own):
    def synthesize(self, latents, noise=None):
        raise RuntimeError("boom")

class Single(Own):
    def synthesize(self, latents, noise=None):
        return super().synthesize(latents, noise)[0]

class Infinite(Own):
    def synthesize(self, latents, noise=None):
        return super().synthesize(latents, noise) / 0

class Wide(Own): resolution = (8, 6)
class Smaller(Own): resolution = 4; noise_sizes = (8,)
class Flat(Own): latent_shape = 4
class Unfit(Own):
    def __init__(self):
        super().__init__()
        self.gaussian_fit = None
class Short(Own):
    def __init__(self):
        super().__init__()
        self.gaussian_fit = torch.zeros(4), torch.ones(3)

def grey(): return Own(channels=1)
def narrow(): return Own(height=6)
def ready(): return READY
READY = Own()
NUMBER = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module `own_priors` and two that cannot be imported, in the current folder."""
    (tmp_path / "own_priors.py").write_text(OWN)
    (tmp_path / "own_hungry.py").write_text("import no_such_package_at_all")
    (tmp_path / "own_broken.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])  # what is added to it goes with the test
    yield tmp_path
    for name in ("own_priors", "own_hungry", "own_broken"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["Own", "Nested.Inner", "ready", "READY"])
def test_own_prior_is_imported_from_the_current_folder(own, name):
    assert "own_priors" not in sys.modules
    loaded = load_prior(f"own_priors:{name}")
    assert isinstance(loaded, Prior)
    assert loaded.name == "own"
    assert not loaded.training
    assert not loaded.weight.requires_grad
    assert module.training_record(f"own_priors:{name}") == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_priors:Missing", "no attribute 'Missing'.*spelling"),
        ("own_absent:Own", "no module 'own_absent'.*Run the command in the folder"),
        ("own_priors.deeper:Own", "no module 'own_priors.deeper'.*Run the command"),
        ("own_hungry:Own", "no module 'no_such_package_at_all'.*your module imports"),
        ("own_broken:Own", "importing own_broken failed. ZeroDivisionError"),
        ("own_priors:NUMBER", "is a int; a prior has to be a torch"),
        ("own_priors:Wants", r"Wants\(\) failed. TypeError.*'path'.*without arguments"),
        ("own_priors:Lacking", r"Lacking is no prior yet; it lacks `mean_latent` \(.*\), `sample` \(.*\)\."),
        ("own_priors:Wide", r"resolution is \(8, 6\).*square.*cropping or padding"),
        ("own_priors:narrow", "pictures of 8x6 pixels, and a prior's are square. Crop or pad"),
        ("own_priors:grey", r"1 channel\(s\), and a prior's have 3.*expand\(-1, 3, -1, -1\)"),
        ("own_priors:Smaller", "side 8, but its resolution says 4"),
        ("own_priors:Flat", r"latent_shape is 4 .*\(rows, dimensions\)"),
        ("own_priors:Unfit", "gaussian_fit is a NoneType; it has to be mean and standard deviation"),
        ("own_priors:Short", r"its standard deviation is \(3,\); it has to be a finite tensor \(4,\)"),
        ("own_priors:Silent", "lets no gradient through"),
        ("own_priors:Raising", r"synthesize fails on latents \(2, 1, 4\). RuntimeError: boom"),
        ("own_priors:Single", r"two latents give \(3, 8, 8\); synthesize has to return \(2, 3, 8, 8\)"),
        ("own_priors:Infinite", "NaN or infinity"),
    ],
)
def test_own_prior_that_does_not_meet_the_contract(own, name, message):
    with pytest.raises(WeightsError, match=message) as caught:
        load_prior(name)
    assert str(caught.value).startswith(f"{name}: ")


def test_a_file_is_a_file_even_with_a_colon_in_its_name(path, own):
    path.rename(own / "own_priors:Own")
    assert load_prior("own_priors:Own").name == "tiny"
    assert "own_priors" not in sys.modules


def test_the_members_asked_for_are_those_of_the_contract():
    contract = {k for k in (*vars(Prior), *Prior.__annotations__) if not k.startswith("_")}
    assert set(MEMBERS) == contract
