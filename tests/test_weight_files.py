"""Files of networks: they come back, they say what they are, damage is named, and nothing in one is ever executed."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import resource
import stat
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from preimage.cli import main
from preimage.degrade.style_vae import StyleVAE, StyleVAEConfig
from preimage.errors import OutputError, WeightsError
from preimage.generate.stylegan2 import StyleGAN2, StyleGAN2Config
from preimage.weight_files import read_metadata, read_module, save_prior
from preimage.weights import describe_weights, load_degradation, load_prior

CONFIG = StyleGAN2Config(8, 64, 8, 8, 8, 2)
TRAINED = {"images_seen": 123, "recipe": {"batch": 4}, "data": ["a.zip"]}


@pytest.fixture(scope="module")
def prior() -> StyleGAN2:
    torch.manual_seed(0)
    made = StyleGAN2(CONFIG, "tiny").requires_grad_(False)
    made.refit(2_000)
    return made


@pytest.fixture
def path(tmp_path, prior) -> Path:
    save_prior(tmp_path / "prior.safetensors", prior, TRAINED)
    return tmp_path / "prior.safetensors"


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(str(path), "pt") as file:
        return dict(file.metadata())


def rewrite(path: Path, **changes: str | None) -> None:
    """The same tensors with other metadata."""
    metadata = {k: v for k, v in {**metadata_of(path), **changes}.items() if v is not None}
    save_file(load_file(path), path, metadata)


# --------------------------------------------------------------------------------------------------------- round trip


def test_round_trip_in_half_precision(path, prior):
    loaded = load_prior(path)
    assert isinstance(loaded, StyleGAN2)
    assert loaded.config == CONFIG
    assert loaded.name == "tiny"
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert all(t.dtype == torch.float32 for t in loaded.state_dict().values())
    assert all(t.dtype == torch.float16 for t in load_file(path).values())
    for key, value in prior.state_dict().items():
        assert torch.allclose(loaded.state_dict()[key], value, rtol=1e-3, atol=1e-6), key
    assert torch.allclose(loaded.sample([0, 1]), prior.sample([0, 1]), atol=0.02)
    assert torch.equal(read_module(path).sample([0]), loaded.sample([0]))


def test_numbers_beyond_half_precision_keep_their_own(tmp_path):
    """Such as spreads of a styleVAE's descriptions; everything else is halved."""
    network = StyleVAE(StyleVAEConfig(16, 4, 5, 6, 1, 1), "style").eval()
    norm = network.style_encoder[-2]
    norm.running_var.fill_(1e5)
    save_prior(tmp_path / "style.safetensors", network, {})
    kept = {k: v.dtype for k, v in load_file(tmp_path / "style.safetensors").items() if v.is_floating_point()}
    assert [k for k, kind in kept.items() if kind != torch.float16] == [
        f"style_encoder.{len(network.style_encoder) - 2}.running_var"
    ]
    assert torch.equal(load_degradation(tmp_path / "style.safetensors").style_encoder[-2].running_var, norm.running_var)


def test_file_says_what_it_is(path):
    about = read_metadata(path)
    assert about["format"] == "preimage-1"
    assert about["architecture"] == "stylegan2"
    assert about["config"] == dataclasses.asdict(CONFIG)
    assert about["trained"] == TRAINED
    assert about["licence"] == "CC BY-NC 4.0"
    text = describe_weights(str(path))
    for word in ("stylegan2", "images_seen: 123", "CC BY-NC 4.0", str(path)):
        assert word in text


def test_saving_is_all_or_nothing(path, prior, monkeypatch):
    save_prior(path, prior, TRAINED)  # over an existing file
    before = path.read_bytes()
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match="free some space"):
        save_prior(path, prior, {})
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


# ----------------------------------------------------------------------------------------------------------- refusals


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("suffix", ["pt", "pkl", "safetensors"])
def test_pickles_are_refused_and_not_executed(tmp_path, suffix):
    canary, file = tmp_path / "canary", tmp_path / f"a.{suffix}"
    file.write_bytes(pickle.dumps({"G_ema": Canary(canary)}))
    with pytest.raises(WeightsError, match=rf"a\.{suffix}: not a readable safetensors file.*never loaded"):
        load_prior(file)
    torch.save({"g_ema": Canary(canary)}, file)
    with pytest.raises(WeightsError, match="never loaded"):
        load_prior(file)
    assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(canary)))  # the control: the canary does sing
    assert canary.exists()


def test_damaged_and_foreign_files(path, tmp_path):
    whole = path.read_bytes()
    for cut in (0, 4, 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(WeightsError, match=r"prior\.safetensors: not a readable safetensors file"):
            load_prior(path)
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match=r"foreign\.safetensors: a safetensors file, but not one that preimage"):
        load_prior(tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match="is a folder, not a network"):
        read_metadata(tmp_path)
    with pytest.raises(WeightsError, match=r"gone\.safetensors: no such file"):
        read_metadata(tmp_path / "gone.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "stylegan9"}, "architecture 'stylegan9' is unknown; this version knows cascade"),
        ({"architecture": None}, "architecture '' is unknown"),
        ({"format": "preimage-99"}, "not one that preimage wrote"),
        ({"config": None}, "do not fit the stylegan2 it describes"),
        ({"config": "{"}, "description is damaged"),
        ({"config": "[1]"}, "config is no mapping"),
        ({"config": "[" * 100_000}, "description is damaged .nested deeper"),
        ({"trained": "[" * 100_000}, "description is damaged .nested deeper"),
        ({"trained": "3"}, "trained is no mapping"),
        ({"config": json.dumps({"resolution": float("inf")})}, "description is damaged .Infinity is no number"),
        ({"config": json.dumps({"resolution": 64.0})}, r"resolution 64\.0: must be a power of two"),
        ({"config": json.dumps({**dataclasses.asdict(CONFIG), "conv_clamp": 10**400})}, "conv_clamp"),
        ({"config": json.dumps({"resolution": True})}, "resolution True: must be a power of two"),
        ({"config": json.dumps({"resolution": [8]})}, "must be a power of two"),
        (
            {"config": json.dumps({**dataclasses.asdict(CONFIG), "channel_base": 0})},
            r"channel_base \(0\) must be a whole",
        ),
        (
            {"config": json.dumps({**dataclasses.asdict(CONFIG), "z_dim": 0})},
            r"z_dim \(0\) must be a whole number from 1",
        ),
        ({"config": json.dumps({**dataclasses.asdict(CONFIG), "w_dim": 8.5})}, r"w_dim \(8\.5\) must be"),
        (
            {"config": json.dumps({**dataclasses.asdict(CONFIG), "mapping_layers": 10**9})},
            "mapping_layers .* from 1 to 64",
        ),
        ({"config": json.dumps({**dataclasses.asdict(CONFIG), "z_dim": 10**12})}, "z_dim .* from 1 to 8192"),
        ({"architecture": "progan", "config": json.dumps({"resolution": 8, "alpha": "x"})}, "alpha 'x'"),
        ({"architecture": "progan", "config": json.dumps({"normalise_first": 3})}, "must be true or false"),
        ({"architecture": "degradation-gan", "config": json.dumps({"noise_dim": -1})}, "noise_dim"),
        ({"architecture": "degradation-gan", "config": json.dumps({"down": 5})}, "must be a list"),
        ({"architecture": "degradation-gan", "config": json.dumps({"up": ["a"]})}, "up.0. .'a'. must be"),
        ({"config": json.dumps({"resolution": 12})}, "do not fit.*power of two"),
        ({"config": json.dumps({**dataclasses.asdict(CONFIG), "depth": 3})}, "do not fit.*depth"),
        ({"config": json.dumps({**dataclasses.asdict(CONFIG), "w_dim": 9})}, "do not fit.* is 8, and 9 is described"),
        (
            {"config": json.dumps({**dataclasses.asdict(CONFIG), "mapping_layers": 3})},
            "do not fit.*fc2.weight is missing; it holds",
        ),
        ({"config": json.dumps({**dataclasses.asdict(CONFIG), "resolution": 16})}, "do not fit.*b16"),
    ],
)
def test_files_that_contradict_themselves(path, changes, message):
    rewrite(path, **changes)
    with pytest.raises(WeightsError, match=message) as caught:
        load_prior(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read in KiB")
def test_what_a_file_describes_is_not_built_before_its_tensors_agree(path):
    largest = {
        "resolution": 1024,
        "channel_base": 1 << 20,
        "channel_max": 8192,
        "z_dim": 8192,
        "w_dim": 8192,
        "mapping_layers": 64,
    }
    rewrite(path, config=json.dumps(largest))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match=r"do not fit.*is described"):
        load_prior(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # it would take 100 GB


@pytest.mark.parametrize("key", ["fit_std", "mapping.w_avg", "synthesis.b8.conv0.weight"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_every_command(path, tmp_path, capsys, key, value):
    tensors = load_file(path)
    tensors[key] = tensors[key].clone()
    tensors[key].view(-1)[0] = value
    save_file(tensors, path, metadata_of(path))
    with pytest.raises(WeightsError, match=f"{key} holds NaN or infinity"):
        load_prior(path)
    Image.new("RGB", (4, 4)).save(tmp_path / "face.png")
    out, prior = str(tmp_path / "out"), ["--prior", str(path)]
    for command in (
        ["upsample", str(tmp_path / "face.png"), "-o", out, "--weights", str(path)],
        ["upsample", str(tmp_path / "face.png"), "-o", out, "--method", "pulse", *prior],
        ["upsample", str(tmp_path / "face.png"), "-o", out, "--method", "bicubic", *prior],
        ["sample", "-o", out, *prior],
        ["bench", "--data", str(tmp_path), "--methods", "bicubic", "-o", out, *prior],
    ):
        assert main(command) == 1
        assert f"{path}: {key} holds NaN or infinity" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_files_that_cannot_be_read_say_why(path, monkeypatch):
    original = Path.open
    for error, words in (
        (PermissionError(13, "Permission denied"), "no permission to read it"),
        (OSError(12, "Cannot allocate memory"), "not enough memory"),
        (MemoryError(), "not enough memory"),
        (OSError(5, "Input/output error"), "cannot be read .Input/output error"),
    ):

        def failing(self, *args, error=error, **kwargs):
            if self == path:
                raise error
            return original(self, *args, **kwargs)

        monkeypatch.setattr(Path, "open", failing)
        with pytest.raises(WeightsError, match=words) as caught:
            load_prior(path)
        assert str(caught.value).startswith(f"{path}: ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)
FIELDS = [field.name for field in dataclasses.fields(StyleGAN2Config)]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    config=st.dictionaries(st.sampled_from(FIELDS), st.integers() | JSON, max_size=4).map(json.dumps)
    | st.text(max_size=30),
    architecture=st.sampled_from(["stylegan2", "stylegan", "progan", "degradation-gan"]) | st.text(max_size=8),
)
def test_any_description_loads_or_is_one_line(path, config, architecture):
    rewrite(path, config=config, architecture=architecture)
    try:
        load_prior(path)
        told = f"{path}: loaded"
    except WeightsError as error:
        told = str(error)
    assert told.startswith(f"{path}: ")
    assert "\n" not in told


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 3000), patch=st.binary(min_size=1, max_size=12), cut=st.integers(1, 400))
def test_any_damage_loads_or_is_one_line(path, place, patch, cut):
    whole = bytearray(path.read_bytes())
    whole[place : place + len(patch)] = patch
    for content in (whole, whole[:-cut]):
        path.write_bytes(bytes(content))
        try:
            load_prior(path)
            told = f"{path}: loaded"
        except WeightsError as error:
            told = str(error)
        assert told.startswith(f"{path}: ")
        assert "\n" not in told
    save_prior(path, StyleGAN2(CONFIG, "tiny"), TRAINED)
