"""Foreign generators become priors: one random network, written in every layout, makes the same pictures; others are named."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import math
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from preimage.cli import main
from preimage.errors import OutputError, WeightsError
from preimage.feature_networks import NETWORKS, load_network
from preimage.feature_networks import metadata as network_metadata
from preimage.generate.stylegan2 import StyleGAN2, StyleGAN2Config
from preimage.measure.convert import convert
from preimage.nets.layers import fir_kernel, upsample2
from preimage.nets.trunks import SqueezeNet11
from preimage.port.convert import LAYOUTS, convert_prior
from preimage.weight_files import sha256
from preimage.weights import load_prior

TINY = StyleGAN2Config(resolution=32, channel_base=128, channel_max=12, z_dim=10, w_dim=14, mapping_layers=3)
State = dict[str, Tensor]
Clamps = Callable[[str], Any]


@pytest.fixture(scope="module")
def source() -> StyleGAN2:
    """Random, with noise that is heard, biases that are not zero, and numbers that half precision holds exactly."""
    torch.manual_seed(0)
    prior = StyleGAN2(TINY, "source").eval().requires_grad_(False)
    for name, p in prior.synthesis.named_parameters():
        if name.endswith(("noise_strength", "bias")):
            p.add_(torch.randn_like(p) * 0.2)
    prior.mapping.w_avg.copy_(torch.randn(14))
    prior.load_state_dict({key: value.half().float() for key, value in prior.state_dict().items()})
    return prior


def assert_same(path: Path, source: StyleGAN2, mean: bool = True) -> None:
    """The same picture from the same z and from the same W+, with and without noise."""
    found = load_prior(path)
    assert isinstance(found, StyleGAN2)
    assert found.config == source.config
    z, w_plus = torch.randn(2, 10), torch.randn(2, source.config.rows, 14)
    noise = [torch.randn(2, 1, side, side) for side in source.noise_sizes]
    pictures = [
        torch.stack([g.synthesize(g.mapping(z)[:, None].expand(-1, g.config.rows, -1)), g.synthesize(w_plus, noise)])
        for g in (found, source)
    ]
    assert float(pictures[1].std()) > 0.1
    torch.testing.assert_close(pictures[0], pictures[1], atol=1e-4, rtol=0)
    if mean:
        torch.testing.assert_close(found.mean_latent, source.mean_latent)


def metadata(path: Path) -> dict[str, Any]:
    with safe_open(str(path), "pt") as file:
        about: dict[str, str] = file.metadata()
    return about


# ------------------------------------------------- writers, from the tables of names in the three programs' checkpoints


def nvidia_state(prior: StyleGAN2) -> State:
    """NVIDIA's PyTorch keys: ours, and constant noise and filters beside them."""
    state = {k: v for k, v in prior.state_dict().items() if not k.startswith("fit_")}
    for side in prior.config.resolutions:
        for layer in ("conv0", "conv1") if side > 4 else ("conv1",):
            state[f"synthesis.b{side}.{layer}.noise_const"] = torch.randn(side, side)
            state[f"synthesis.b{side}.{layer}.resample_filter"] = fir_kernel()
        state[f"synthesis.b{side}.resample_filter"] = fir_kernel()
    return state


def rosinality_state(prior: StyleGAN2) -> State:
    """rosinality's keys and shapes."""
    ours, state = prior.state_dict(), {}
    for i in range(prior.config.mapping_layers):
        for part in ("weight", "bias"):
            state[f"style.{i + 1}.{part}"] = ours[f"mapping.fc{i}.{part}"]
    state["input.input"] = ours["synthesis.b4.const"][None]
    names = [("conv1", "to_rgb1", "b4.conv1", "b4.torgb")]
    for i, side in enumerate(prior.config.resolutions[1:]):
        names += [
            (f"convs.{2 * i}", "", f"b{side}.conv0", ""),
            (f"convs.{2 * i + 1}", f"to_rgbs.{i}", f"b{side}.conv1", f"b{side}.torgb"),
        ]
    for conv, rgb, our_conv, our_rgb in names:
        for theirs, mine in ((conv, our_conv), (rgb, our_rgb)):
            if theirs:
                state[f"{theirs}.conv.weight"] = ours[f"synthesis.{mine}.weight"][None]
                state[f"{theirs}.conv.modulation.weight"] = ours[f"synthesis.{mine}.affine.weight"]
                state[f"{theirs}.conv.modulation.bias"] = ours[f"synthesis.{mine}.affine.bias"]
        state[f"{conv}.noise.weight"] = ours[f"synthesis.{our_conv}.noise_strength"].reshape(1)
        state[f"{conv}.activate.bias"] = ours[f"synthesis.{our_conv}.bias"]
        if conv.startswith("convs") and not rgb:
            state[f"{conv}.conv.blur.kernel"] = fir_kernel(4.0)
        if rgb:
            state[f"{rgb}.bias"] = ours[f"synthesis.{our_rgb}.bias"].reshape(1, 3, 1, 1)
        if rgb.startswith("to_rgbs"):
            state[f"{rgb}.upsample.kernel"] = fir_kernel(4.0)
    for k, side in enumerate(prior.noise_sizes):
        state[f"noises.noise_{k}"] = torch.randn(1, 1, side, side)
    return state


def tensorflow_variables(prior: StyleGAN2) -> dict[str, list[tuple[str, np.ndarray]]]:
    """The variables of NVIDIA's TensorFlow networks, by network: dense (in, out), kernels (h, w, in, out), styles less 1."""
    ours = {k: v.numpy() for k, v in prior.state_dict().items()}
    mapping = []
    for i in range(prior.config.mapping_layers):
        mapping += [
            (f"Dense{i}/weight", ours[f"mapping.fc{i}.weight"].T),
            (f"Dense{i}/bias", ours[f"mapping.fc{i}.bias"]),
        ]
    synthesis = [("4x4/Const/const", ours["synthesis.b4.const"][None])]
    for side in prior.config.resolutions:
        layers = (
            {"conv1": "Conv", "torgb": "ToRGB"}
            if side == 4
            else {"conv0": "Conv0_up", "conv1": "Conv1", "torgb": "ToRGB"}
        )
        for mine, theirs in layers.items():
            own, name = f"synthesis.b{side}.{mine}", f"{side}x{side}/{theirs}"
            kernel = ours[f"{own}.weight"].transpose(2, 3, 1, 0)
            synthesis += [
                (f"{name}/weight", kernel[::-1, ::-1] if mine == "conv0" else kernel),
                (f"{name}/mod_weight", ours[f"{own}.affine.weight"].T),
                (f"{name}/mod_bias", ours[f"{own}.affine.bias"] - 1),
                (f"{name}/bias", ours[f"{own}.bias"]),
            ]
            if mine != "torgb":
                synthesis.append((f"{name}/noise_strength", ours[f"{own}.noise_strength"]))
    synthesis += [(f"noise{k}", np.zeros((1, 1, s, s), np.float32)) for k, s in enumerate(prior.noise_sizes)]
    top = [("lod", np.float32(0)), ("dlatent_avg", ours["mapping.w_avg"])]
    return {"": top, "mapping": mapping, "synthesis": synthesis}


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
    raise AssertionError("nothing is to be rebuilt")


class EasyDict(dict[str, Any]):
    """Stands for NVIDIA's class of this name."""


class Network:
    """Stands for NVIDIA's class of this name."""

    def __init__(self, **state: Any):
        self.__dict__.update(state)


class Persistent:
    """A module as NVIDIA's persistence pickles it."""

    def __init__(self, name: str, **state: Any):
        self.meta = {
            "type": "class",
            "version": 6,
            "module_src": "raise SystemExit",
            "class_name": name,
            "state": EasyDict(state),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return _reconstruct_persistent_obj, (self.meta,)


@contextlib.contextmanager
def pretended() -> Iterator[None]:
    """NVIDIA's modules, for as long as pickle writes."""
    owners = {
        "torch_utils.persistence": _reconstruct_persistent_obj,
        "dnnlib.util": EasyDict,
        "dnnlib.tflib.network": Network,
    }
    for name, thing in owners.items():
        for part in (name.rpartition(".")[0], name):
            sys.modules[part] = types.ModuleType(part)
        thing.__module__ = name
        setattr(sys.modules[name], thing.__name__, thing)
    try:
        yield
    finally:
        for name in owners:
            sys.modules.pop(name, None)
            sys.modules.pop(name.rpartition(".")[0], None)


def as_modules(state: State, name: str = "Generator", clamps: Clamps | None = None, **more: Any) -> Persistent:
    """A state_dict as the tree of pickled modules that has it; buffers are told by their names.

    clamps: the attribute `conv_clamp` of each convolution by its dotted name.
    """
    path = name.removeprefix("Generator").removeprefix(".")
    if clamps and path.rpartition(".")[2] in ("conv0", "conv1", "torgb"):
        more["conv_clamp"] = clamps(path)
    buffers = ("w_avg", "noise_const", "resample_filter")
    own = {k: v for k, v in state.items() if "." not in k}
    children = sorted({k.split(".")[0] for k in state if "." in k})
    return Persistent(
        name,
        training=False,
        _parameters=OrderedDict((k, torch.nn.Parameter(v)) for k, v in own.items() if k not in buffers),
        _buffers=OrderedDict((k, v) for k, v in own.items() if k in buffers),
        _modules=OrderedDict(
            (
                c,
                as_modules(
                    {k.removeprefix(f"{c}."): v for k, v in state.items() if k.startswith(f"{c}.")},
                    f"{name}.{c}",
                    clamps,
                ),
            )
            for c in children
        ),
        **more,
    )


def write_nvidia(
    prior: StyleGAN2, path: Path, clamps: Clamps | None = None, synthesis: dict[str, Any] | None = None, **kwargs: Any
) -> Path:
    state = nvidia_state(prior)
    raw = {k: v + 1 for k, v in state.items()}  # the weights of this very step, which are not the published ones
    inner = {"mapping_kwargs": EasyDict(num_layers=3, **kwargs), "synthesis_kwargs": EasyDict(synthesis or {})}
    about = {"_init_kwargs": EasyDict(z_dim=10, **inner)}
    judge = Persistent("Discriminator", _parameters=OrderedDict(), _buffers=OrderedDict(), _modules=OrderedDict())
    with pretended():
        networks = {
            "G": as_modules(raw, clamps=lambda _: 7.0, **about),
            "D": judge,
            "G_ema": as_modules(state, clamps=clamps, **about),
        }
        path.write_bytes(
            pickle.dumps({**networks, "training_set_kwargs": EasyDict(path="ffhq.zip"), "augment_pipe": None})
        )
    return path


def write_tensorflow(prior: StyleGAN2, path: Path, **kwargs: Any) -> Path:
    def network(variables: dict[str, Any], **more: Any) -> Network:
        inner = {name: network({"": v}) for name, v in variables.items() if name}
        return Network(version=4, name="G", static_kwargs=more, components=EasyDict(inner), build_module_src="raise SystemExit",
                       build_func_name="G_main", variables=variables.get("", []))  # fmt: skip

    shifted = {name: [(k, v + 1) for k, v in variables] for name, variables in tensorflow_variables(prior).items()}
    with pretended():
        networks = (network(shifted), network({"": []}), network(tensorflow_variables(prior), resolution=32, **kwargs))
        path.write_bytes(pickle.dumps(networks))
    return path


def write_rosinality(prior: StyleGAN2, path: Path) -> Path:
    torch.save({"g_ema": rosinality_state(prior), "latent_avg": prior.mean_latent}, path)
    return path


def write_own_training(prior: StyleGAN2, path: Path) -> Path:
    state = rosinality_state(prior)
    judge = {"convs.0.0.weight": torch.zeros(4, 3, 1, 1), "final_linear.0.weight": torch.zeros(4, 4)}
    options = argparse.Namespace(size=32, channel_multiplier=2, ckpt=None)
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.002, "params": [0]}]}
    raw = {k: v + 1 for k, v in state.items()}
    torch.save({"g": raw, "d": judge, "g_ema": state, "g_optim": optimizer, "args": options, "ada_aug_p": 0.0}, path,
               _use_new_zipfile_serialization=False)  # fmt: skip
    return path


def write_encoder(prior: StyleGAN2, path: Path) -> Path:
    decoder = {f"decoder.{k}": v for k, v in rosinality_state(prior).items()}
    state = {"encoder.input_layer.0.weight": torch.zeros(64, 3, 3, 3), **decoder, "face_pool.x": torch.zeros(1)}
    torch.save(
        {"state_dict": state, "opts": {"exp_dir": "x", "lr": 0.1}, "latent_avg": prior.mean_latent.repeat(8, 1)}, path
    )
    return path


WRITERS: dict[str, tuple[str, Callable[[StyleGAN2, Path], Path]]] = {
    "nvidia": ("NVIDIA StyleGAN2 (PyTorch)", write_nvidia),
    "tensorflow": ("NVIDIA StyleGAN2 (TensorFlow)", write_tensorflow),
    "rosinality": ("rosinality StyleGAN2", write_rosinality),
    "own training": ("rosinality StyleGAN2", write_own_training),
    "encoder": ("decoder of pSp, e4e or ReStyle", write_encoder),
}

# --------------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("layout", WRITERS)
def test_every_layout_makes_the_same_pictures(source: StyleGAN2, tmp_path: Path, layout: str) -> None:
    name, write = WRITERS[layout]
    path = write(source, tmp_path / "theirs.pkl")
    out = convert_prior(path, tmp_path / "ours.safetensors", name="mine", licence="CC0, by myself")
    assert out == tmp_path / "ours.safetensors"
    has_mean = layout != "own training"
    assert_same(out, source, has_mean)
    about = metadata(out)
    trained = json.loads(about["trained"])
    assert (about["name"], about["architecture"], about["licence"]) == ("mine", "stylegan2", "CC0, by myself")
    assert (trained["source"], trained["source_sha256"], trained["layout"]) == ("theirs.pkl", sha256(path), name)
    assert any("mean latent is estimated" in note for note in trained["notes"]) != has_mean
    assert any("constant noise" in note for note in trained["notes"])
    found = load_prior(out)
    if not has_mean:
        w = source.mapping(torch.randn(20_000, 10, generator=torch.Generator().manual_seed(5)))
        error = w.std(0) * math.sqrt(1 / 10_000 + 1 / 20_000)  # the standard error of both estimates
        assert bool(((found.mean_latent - w.mean(0)).abs() < 5 * error).all())
    source_fit = StyleGAN2(TINY)
    source_fit.load_state_dict(source.state_dict())
    source_fit.refit()
    for fitted, expected in zip(found.gaussian_fit, source_fit.gaussian_fit, strict=True):
        torch.testing.assert_close(fitted, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("write", [nvidia_state, rosinality_state])
def test_plain_state_dicts_and_safetensors(source: StyleGAN2, tmp_path: Path, write: Callable[..., State]) -> None:
    state = {k: v.contiguous().clone() for k, v in write(source).items()}
    torch.save(state, tmp_path / "a.pt")
    save_file(state, tmp_path / "b.safetensors")
    for file in ("a.pt", "b.safetensors"):
        out = convert_prior(tmp_path / file, tmp_path / "out.safetensors")
        assert_same(out, source, mean=write is nvidia_state)
        assert metadata(out)["name"] == "out"
        assert metadata(out)["licence"] == "not stated; confirm it"


@pytest.mark.parametrize(
    "config",
    [
        StyleGAN2Config(8, 4096, 24, 6, 5, 1),
        StyleGAN2Config(16, 64, 16, 8, 8, 2),  # narrower from 8 pixels on
        StyleGAN2Config(64, 256, 8, 5, 7, 2),
    ],
)
def test_sizes_are_read_from_the_shapes(tmp_path: Path, config: StyleGAN2Config) -> None:
    prior = StyleGAN2(config).requires_grad_(False)
    for state in (nvidia_state(prior), rosinality_state(prior)):
        torch.save(state, tmp_path / "a.pt")
        found = load_prior(convert_prior(tmp_path / "a.pt", tmp_path / "out.safetensors")).config
        assert (found.resolution, found.z_dim, found.w_dim, found.mapping_layers) == (
            config.resolution, config.z_dim, config.w_dim, config.mapping_layers,
        )  # fmt: skip
        assert [found.channels(s) for s in found.resolutions] == [config.channels(s) for s in config.resolutions]


def test_tensorflow_kernels_stand_as_their_program_uses_them(source: StyleGAN2) -> None:
    """There an up-convolution equals enlarging by the filter, then an ordinary convolution with the stored kernel."""
    stored = dict(tensorflow_variables(source)["synthesis"])["8x8/Conv0_up/weight"]
    layer, x = source.synthesis.block(8).conv0, torch.randn(1, 12, 4, 4)
    w = torch.randn(1, 14)
    style = layer.affine(w)[0]
    kernel = torch.from_numpy(stored.copy()).permute(3, 2, 0, 1) * style[:, None, None] / math.sqrt(12 * 9)
    kernel = kernel * (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).rsqrt()
    # the filter reaches over the border: enlarge a padded picture, and cut it to size after the convolution
    wide = upsample2(F.pad(x, (2, 2, 2, 2)), fir_kernel(4.0))
    expected = F.conv2d(wide, kernel, padding=1)[:, :, 4:-4, 4:-4]
    expected = F.leaky_relu(expected + layer.bias[:, None, None], 0.2) * math.sqrt(2)
    torch.testing.assert_close(layer(x, w), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layout", ["nvidia", "tensorflow", "rosinality"])
def test_full_precision_keeps_every_number(source: StyleGAN2, tmp_path: Path, layout: str) -> None:
    rough = StyleGAN2(TINY, "rough").eval().requires_grad_(False)
    third = {k: v + torch.rand_like(v) * 1e-4 for k, v in source.state_dict().items()}  # not numbers of half precision
    rough.load_state_dict(third)
    path = WRITERS[layout][1](rough, tmp_path / "theirs.pkl")
    w_plus, pictures = torch.randn(2, TINY.rows, 14), {}
    for half in (False, True):
        out = convert_prior(path, tmp_path / "ours.safetensors", half=half)
        pictures[half] = load_prior(out).synthesize(w_plus)
        assert json.loads(metadata(out)["trained"])["precision"] == ("fp16" if half else "fp32")
        with safe_open(str(out), "pt") as file:
            assert file.get_tensor("mapping.fc0.weight").dtype == (torch.float16 if half else torch.float32)
    expected = rough.synthesize(w_plus)
    torch.testing.assert_close(pictures[False], expected, atol=1e-6, rtol=0)
    assert float((pictures[True] - expected).abs().max()) > 1e-6


def test_names_of_layouts_are_different() -> None:
    names = [layout.name for layout in LAYOUTS]
    assert len(set(names)) == len(names) >= 7


# ------------------------------------------------------------------------------------------------------------ refusals


def refused(state: Any, tmp_path: Path, match: str) -> None:
    path, out = tmp_path / "theirs.pt", tmp_path / "ours.safetensors"
    torch.save(state, path)
    with pytest.raises(WeightsError, match=match) as caught:
        convert_prior(path, out)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) == 1
    assert not out.exists()


def keys(*names: str) -> State:
    return {name: torch.zeros(1) for name in names}


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (("G_ema.synthesis.input.weight", "G_ema.synthesis.L0_36_512.weight", "G_ema.mapping.fc0.weight"), "StyleGAN3"),
        (("G_ema.mapping.embed_proj.weight", "G_ema.synthesis.L0_36_512.weight"), "StyleGAN-XL"),
        (("G_ema.backbone.synthesis.b4.const", "G_ema.superresolution.block0.conv0.weight", "G_ema.decoder.net.0.weight"), "EG3D"),
        (("model.diffusion_model.input_blocks.0.0.weight",), "diffusion model"),
        (("down_blocks.0.resnets.0.conv1.weight", "mid_block.attentions.0.to_q.weight"), "diffusion model"),
        (("state_dict.encoder.input_layer.0.weight", "latent_avg"), "an encoder without its generator"),
        (("input_layer.0.weight", "body.0.res_layer.0.weight"), "an encoder without its generator"),
        (("encoder.conv_in.weight", "decoder.conv_in.weight", "post_quant_conv.weight"), "an autoencoder"),
        (("convs.0.0.weight", "final_linear.0.weight"), "a discriminator"),
        (("b1024.fromrgb.weight", "b4.out.weight"), "a discriminator"),
        (("conv1.weight", "layer1.0.conv1.weight", "fc.weight"), "a classifier"),
        (("style_conv1.modulated_conv.weight", "constant_input.weight"), "BasicSR"),
        (("Gs.synthesis.4x4.Const.StyleMod.weight", "Gs.synthesis.4x4.Const.const"), "lernapparat's PyTorch file"),
        (("RRDB_trunk.0.RDB1.conv1.weight",), "super-resolution"),
        (("something.else",), r"1 tensors \(something\.else, …\) of no network known"),
        ((), "holds no tensors"),
    ],
)  # fmt: skip
def test_other_networks_are_named(tmp_path: Path, names: tuple[str, ...], match: str) -> None:
    refused(keys(*names), tmp_path, match + ".*can be converted: StyleGAN2")


def test_stylegan2_of_another_kind(source: StyleGAN2, tmp_path: Path) -> None:
    state = nvidia_state(source)
    refused({**state, "mapping.embed.weight": torch.zeros(3, 3)}, tmp_path, "conditional on labels")
    refused({**state, "synthesis.b4.const": torch.zeros(12, 4, 2)}, tmp_path, "pictures of 32x16 pixels.*square")
    grey = {k: v[:1] if "torgb.weight" in k or "torgb.bias" in k else v for k, v in state.items()}
    refused(grey, tmp_path, "pictures of 1 channels; a prior needs 3")
    refused({**state, "synthesis.b8.skip.weight": torch.zeros(1)}, tmp_path, 'another architecture than "skip"')
    refused({k: v for k, v in state.items() if "b16.torgb" not in k}, tmp_path, 'another architecture than "skip"')
    refused({k: v for k, v in state.items() if ".b16." not in k}, tmp_path, "without a gap")
    refused({k: v for k, v in state.items() if not k.startswith("mapping.fc0")}, tmp_path, "without its mapping")
    refused(
        {k: v for k, v in state.items() if k != "mapping.fc1.bias"}, tmp_path, "together: mapping.fc1.bias is missing"
    )
    refused(
        {**state, "synthesis.b8.conv2.weight": torch.zeros(1)}, tmp_path, "together: .*b8.conv2.weight has no place"
    )
    bent = {**state, "synthesis.b8.conv1.weight": torch.zeros(2, 3)}
    refused(bent, tmp_path, "together: .*b8.conv1.weight is 2x3, where 12x12x3x3 belongs")
    refused(
        {k: v for k, v in state.items() if ".torgb." not in k or k.endswith("rgb.weight")},
        tmp_path,
        "affine.bias is missing",
    )
    refused({**state, "mapping.fc0.weight": torch.zeros(3)}, tmp_path, "together: mapping.fc0.weight is 3")
    bent = {**rosinality_state(source), "convs.0.noise.weight": torch.zeros(2)}
    refused(bent, tmp_path, "together: convs.0.noise.weight is 2 ")
    refused({**state, "synthesis.b8.resample_filter": torch.eye(4)}, tmp_path, r"another filter than \[1, 3, 3, 1\]")
    refused({**state, "synthesis.b8.conv1.bias": torch.full((12,), math.nan)}, tmp_path, "holds NaN")
    refused({**state, "synthesis.b8.conv1.bias": torch.full((12,), 1e5)}, tmp_path, "beyond half.*--precision fp32")
    wide = {k: F.pad(v, (0, 1)) if k == "synthesis.b8.torgb.affine.bias" else v for k, v in state.items()}
    refused(wide, tmp_path, "of the widths")
    refused({**rosinality_state(source), "convs.0.skip.weight": torch.zeros(1)}, tmp_path, "rosinality's layout has")
    for mean in (torch.zeros(5), torch.zeros(3, 5)):
        refused({**rosinality_state(source), "latent_avg": mean}, tmp_path, "mean latent of 5 numbers")


def test_settings_without_a_trace_in_the_shapes(source: StyleGAN2, tmp_path: Path) -> None:
    path = write_nvidia(source, tmp_path / "a.pkl", lr_multiplier=0.1)
    with pytest.raises(WeightsError, match=r"lr_multiplier is 0\.1, and only 0\.01 is known"):
        convert_prior(path, tmp_path / "out.safetensors")
    path = write_tensorflow(source, tmp_path / "a.pkl", nonlinearity="relu")
    with pytest.raises(WeightsError, match="nonlinearity is 'relu'"):
        convert_prior(path, tmp_path / "out.safetensors")
    state = as_modules(nvidia_state(source), _init_kwargs=EasyDict(mapping_kwargs=EasyDict(lr_multiplier=0.1)))
    with pretended():
        path.write_bytes(pickle.dumps(state))  # the generator alone, under no name
    with pytest.raises(WeightsError, match=r"lr_multiplier is 0\.1, and only 0\.01 is known"):
        convert_prior(path, tmp_path / "out.safetensors")


def test_what_keeps_a_file_from_being_converted(
    source: StyleGAN2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise MemoryError

    path = write_rosinality(source, tmp_path / "a.pt")
    monkeypatch.setattr(StyleGAN2, "refit", fail)
    with pytest.raises(WeightsError, match=r"a\.pt: takes more memory to read than there is"):
        convert_prior(path, tmp_path / "out.safetensors")


# -------------------------------------------------------------------------------------------------------------- clamping


def clamped(source: StyleGAN2, most: float) -> StyleGAN2:
    """The same network, whose layers' outputs are clamped from without."""
    made = StyleGAN2(TINY, "clamped").eval().requires_grad_(False)
    made.load_state_dict(source.state_dict())
    for name, module in made.synthesis.named_modules():
        if name.rpartition(".")[2] in ("conv0", "conv1", "torgb"):
            module.register_forward_hook(lambda *args: args[2].clamp(-most, most))
    return made


def pictures(prior: Any) -> Tensor:
    rng = torch.Generator().manual_seed(3)
    w_plus = 2 * torch.randn(2, TINY.rows, 14, generator=rng)
    noise = [torch.randn(2, 1, side, side, generator=rng) for side in prior.noise_sizes]
    found: Tensor = prior.synthesize(w_plus, noise)
    return found


def write_clamped_tensorflow(prior: StyleGAN2, path: Path) -> Path:
    return write_tensorflow(prior, path, conv_clamp=1.5)


@pytest.mark.parametrize(
    "write",
    [
        lambda prior, path: write_nvidia(prior, path, lambda _: 1.5, {"conv_clamp": 1.5}),
        lambda prior, path: write_nvidia(prior, path, lambda _: 1.5),
        lambda prior, path: write_nvidia(prior, path, None, {"conv_clamp": 1.5}),
        write_clamped_tensorflow,
    ],
    ids=["layers and settings", "layers", "settings", "tensorflow"],
)
def test_nvidias_clamp_is_applied(source: StyleGAN2, tmp_path: Path, write: Callable[[StyleGAN2, Path], Path]) -> None:
    out = convert_prior(write(source, tmp_path / "a.pkl"), tmp_path / "out.safetensors", half=False)
    found = load_prior(out)
    assert found.config == replace(TINY, conv_clamp=1.5)
    assert json.loads(metadata(out)["config"])["conv_clamp"] == 1.5
    torch.testing.assert_close(pictures(found), pictures(clamped(source, 1.5)), atol=1e-5, rtol=0)
    assert float((pictures(found) - pictures(source)).abs().max()) > 0.1


def test_without_a_clamp_nothing_is_clamped(source: StyleGAN2, tmp_path: Path) -> None:
    out = convert_prior(write_nvidia(source, tmp_path / "a.pkl", lambda _: None), tmp_path / "out.safetensors")
    assert load_prior(out).config == TINY  # the network of the last step has a clamp, and is not the one that is taken
    assert not any("no settings" in note for note in json.loads(metadata(out)["trained"])["notes"])
    torch.save(nvidia_state(source), tmp_path / "a.pt")
    out = convert_prior(tmp_path / "a.pt", out)
    assert load_prior(out).config == TINY
    assert any("no settings" in note for note in json.loads(metadata(out)["trained"])["notes"])


@pytest.mark.parametrize(
    ("clamps", "synthesis", "match"),
    [
        (
            lambda path: 1.5 if "b8" in path else 256,
            {},
            r"several clamps: G_ema\.synthesis\.b\S+ is \S+ and .*one for all",
        ),
        (lambda _: 1.5, {"conv_clamp": 256}, "several clamps"),
        (
            lambda path: 1.5 if path.endswith("torgb") else None,
            {},
            r"clamps G_ema\.\S+torgb .conv_clamp. and not G_ema\.\S+conv",
        ),
        (lambda _: 0, {}, "conv_clamp 0: must be a finite number above 0"),
        (lambda _: -1.5, {}, "conv_clamp -1.5: must be"),
        (lambda _: math.inf, {}, "conv_clamp inf: must be"),
        (lambda _: "much", {}, "conv_clamp 'much': must be"),
        (lambda _: True, {}, "conv_clamp True: must be"),
    ],
)
def test_clamps_that_cannot_be(
    source: StyleGAN2, tmp_path: Path, clamps: Clamps, synthesis: dict[str, Any], match: str
) -> None:
    path = write_nvidia(source, tmp_path / "a.pkl", clamps, synthesis)
    with pytest.raises(WeightsError, match=match) as caught:
        convert_prior(path, tmp_path / "out.safetensors")
    assert str(caught.value).startswith(f"{path}: ")
    assert not (tmp_path / "out.safetensors").exists()


# ------------------------------------------------------------------------------------------------------ the mapping's rate


def mapped(state: State, z: Tensor, rate: float) -> Tensor:
    """rosinality's mapping network, as its program computes it with this rate, from its own keys."""
    w = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
    for i in range(1, 4):
        weight, bias = state[f"style.{i}.weight"], state[f"style.{i}.bias"]
        w = F.leaky_relu(w @ (weight * rate / math.sqrt(weight.shape[1])).t() + bias * rate, 0.2) * math.sqrt(2)
    return w


@pytest.mark.parametrize("layout", ["rosinality", "own training", "encoder"])
def test_the_rate_of_a_mapping_network_can_be_said(source: StyleGAN2, tmp_path: Path, layout: str) -> None:
    path, out, z = WRITERS[layout][1](source, tmp_path / "a.pt"), tmp_path / "out.safetensors", torch.randn(50, 10)
    state = rosinality_state(source)
    for rate in (None, 0.01, 0.02, 0.004):
        prior = load_prior(convert_prior(path, out, half=False, lr_mlp=rate))
        torch.testing.assert_close(prior.mapping(z), mapped(state, z, rate or 0.01), atol=1e-5, rtol=1e-4)
        (note,) = [note for note in json.loads(metadata(out)["trained"])["notes"] if "rate" in note]
        assert ("0.01, is assumed" in note and "--lr-mlp" in note) == (rate is None)
        assert rate is None or f"the rate {rate} (--lr-mlp)" in note
        fitted = StyleGAN2(TINY)
        fitted.load_state_dict(prior.state_dict())
        fitted.refit()
        torch.testing.assert_close(prior.gaussian_fit[1], fitted.gaussian_fit[1])  # measured after it was scaled


def test_rates_that_cannot_be(source: StyleGAN2, tmp_path: Path) -> None:
    path, out = write_rosinality(source, tmp_path / "a.pt"), tmp_path / "out.safetensors"
    for rate in (0, -0.1, math.nan, math.inf, True, "0.1"):
        with pytest.raises(WeightsError, match=r"a\.pt: --lr-mlp .*: must be a finite number above 0"):
            convert_prior(path, out, lr_mlp=rate)  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match=r"--lr-mlp 1e\+300: makes mapping\.fc0\.weight larger"):
        convert_prior(path, out, lr_mlp=1e300)
    for layout in ("nvidia", "tensorflow"):
        path = WRITERS[layout][1](source, tmp_path / "a.pkl")
        with pytest.raises(WeightsError, match=r"a\.pkl: .*--lr-mlp is not for.*say their rate themselves"):
            convert_prior(path, out, lr_mlp=0.1)
    assert not out.exists()


def test_results_that_cannot_be_written(source: StyleGAN2, tmp_path: Path) -> None:
    path = write_rosinality(source, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="its own conversion"):
        convert_prior(path, path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        convert_prior(path, tmp_path / "file" / "out.safetensors")
    out = convert_prior(path, tmp_path)
    assert out == tmp_path / "a.safetensors"
    with pytest.raises(WeightsError, match="already a prior"):
        convert_prior(out, tmp_path / "b.safetensors")


# ------------------------------------------------------------------------------------------------- networks that measure


def lacking(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def says(match: str, call: Callable[..., Any], *args: Any) -> None:
    with pytest.raises(WeightsError, match=match) as caught:
        call(*args)
    assert len(str(caught.value).splitlines()) == 1


def test_folders_given_for_networks_that_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says("is a folder, and no such file lies in it", convert, tmp_path)
    for name in ("a.pth", "b.safetensors"):
        (tmp_path / name).touch()
    says(r"is a folder; name one file in it: a\.pth, b\.safetensors\.$", convert, tmp_path)
    says(r"is a folder; name one file in it: b\.safetensors\.$", load_network, str(tmp_path))
    monkeypatch.setenv("PREIMAGE_WEIGHTS", str(tmp_path))
    (tmp_path / NETWORKS["squeeze"].file).mkdir()
    says("is a folder", load_network, "squeeze")


@pytest.mark.parametrize(
    ("error", "match"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), r"^\S+: no permission to read it"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), r"^\S+: takes more memory to read"),
    ],
)
def test_networks_that_measure_and_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, match: str
) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lacking(error))
        for call in (convert, load_network, network_metadata):
            says(match, call, path)
        patch.setenv("PREIMAGE_WEIGHTS", str(tmp_path))
        path.rename(tmp_path / NETWORKS["squeeze"].file)
        says(match, load_network, "squeeze")
    (tmp_path / NETWORKS["squeeze"].file).rename(path)
    monkeypatch.setattr("safetensors.safe_open", lacking(error))
    for call in (load_network, network_metadata):
        says(match, call, path)


# -------------------------------------------------------------------------------------------------------- command line


def test_one_command_converts_priors_and_networks_that_measure(
    source: StyleGAN2, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_rosinality(source, tmp_path / "theirs.pt"), tmp_path / "ours.safetensors"
    command = ["models", "convert", str(path), "-o", str(out), "--licence", "CC BY 4.0", "--name", "mine"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    for said in ("rosinality StyleGAN2", "CC BY 4.0", "name: mine", sha256(path), str(out)):
        assert said in printed
    assert_same(out, source)
    assert main(["models", "convert", str(path)]) == 0
    assert_same(tmp_path / "theirs.safetensors", source)
    assert main([*command, "--precision", "fp32"]) == 0
    assert "precision: fp32" in capsys.readouterr().out
    assert_same(out, source)
    assert "0.01, is assumed" in printed
    assert main([*command, "--lr-mlp", "0.02"]) == 0
    assert "the rate 0.02 (--lr-mlp)" in capsys.readouterr().out
    assert main([*command, "--lr-mlp", "0"]) == 1
    assert "--lr-mlp 0.0: must be" in capsys.readouterr().err
    assert main([*command, "--mapping", str(path)]) == 1
    assert "holds a whole generator (rosinality StyleGAN2)" in capsys.readouterr().err
    for action in ("convert", "show"):
        assert main(["models", action]) == 1
        assert capsys.readouterr().err.startswith(f"preimage: models {action}: no file is named")
    torch.save(SqueezeNet11().state_dict(), tmp_path / "judge.pth")
    assert main(["models", "convert", str(tmp_path / "judge.pth"), "-o", str(tmp_path / "judge.safetensors")]) == 0
    assert "squeeze" in capsys.readouterr().out
    torch.save(keys("model.diffusion_model.input_blocks.0.0.weight"), path)
    assert main(["models", "convert", str(path), "-o", str(tmp_path / "x.safetensors")]) == 1
    assert "a diffusion model" in capsys.readouterr().err
    assert not (tmp_path / "x.safetensors").exists()
