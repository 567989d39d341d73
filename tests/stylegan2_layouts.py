"""Writes StyleGAN2 generators of ours as other programs would have, from the tables of names in the three programs' checkpoints."""

from __future__ import annotations

import contextlib
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from preimage.generate.stylegan2 import StyleGAN2
from preimage.nets.layers import fir_kernel

State = dict[str, Tensor]
Clamps = Callable[[str], Any]


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
    inner = {
        "mapping_kwargs": EasyDict(num_layers=prior.config.mapping_layers, **kwargs),
        "synthesis_kwargs": EasyDict(synthesis or {}),
    }
    about = {"_init_kwargs": EasyDict(z_dim=prior.config.z_dim, **inner)}
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
        networks = (
            network(shifted),
            network({"": []}),
            network(tensorflow_variables(prior), resolution=prior.resolution, **kwargs),
        )
        path.write_bytes(pickle.dumps(networks))
    return path


def write_rosinality(prior: StyleGAN2, path: Path) -> Path:
    torch.save({"g_ema": rosinality_state(prior), "latent_avg": prior.mean_latent}, path)
    return path
