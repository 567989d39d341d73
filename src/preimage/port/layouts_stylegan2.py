"""StyleGAN2 checkpoints of NVIDIA's programs: PyTorch and TensorFlow.

The TensorFlow variables are transposed, the kernels of up-convolutions stand on their heads there (their program turns them
before a transposed convolution), and the styles lack their 1. What leaves no trace in the tensors is read from the settings that
NVIDIA's pickles keep beside them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from preimage.errors import WeightsError
from preimage.port.layout import Layout, Ported, Settings, State
from preimage.port.stylegan2_keys import RATE, changed, finish, generator, matcher

# two keys of such a generator, whatever stands before them
_PYTORCH = ("synthesis.b4.const", "synthesis.b4.conv1.affine.weight")
_TENSORFLOW = ("synthesis.4x4.Const.const", "synthesis.4x4.Conv.mod_weight")
_FIXED: tuple[tuple[str, str | float], ...] = (
    (r"(.+\.)?mapping_kwargs\.lr_multiplier|static_kwargs\.mapping_lrmul|mapping\.fc\d+\.bias_gain", RATE),
    (r"(.+\.)?(mapping|synthesis)_kwargs\.activation|static_kwargs\.(mapping_)?nonlinearity", "lrelu"),
    (r"mapping\.fc\d+\.activation|synthesis\.b\d+\.conv[01]\.activation", "lrelu"),
)
"""Settings without a trace in the shapes, by their names in a generator of NVIDIA's, and what they are in every published one."""
_LAYERS = r"(synthesis\.b\d+\.(?:conv[01]|torgb))\."
_SILENT = (
    "the file says no settings beside its tensors; those of NVIDIA's networks without mixed precision are assumed: a mapping rate "
    "of 0.01, leaky ReLU, no clamp (conv_clamp)"
)


def _clamp_of(root: str, settings: Settings, layers: set[str]) -> float | str | bool | None:
    """What the settings of NVIDIA's generator under `root` clamp its layers to; None: no clamp.

    Raises:
        WeightsError: a setting that is none of the published ones, or clamps that differ from layer to layer.
    """
    own = {key.removeprefix(root): value for key, value in settings.about.items() if key.startswith(root)}
    for key, value in own.items():
        for setting, known in _FIXED:
            if value != known and re.fullmatch(setting, key):
                raise WeightsError(
                    f"a generator of an unusual kind: {root}{key} is {value!r}, and only {known!r} is known here."
                )
    clamps = {key: value for key, value in own.items() if key.rpartition(".")[2] == "conv_clamp"}
    said = {found[1] for key in clamps if (found := re.match(_LAYERS + "conv_clamp$", key))}
    if said and (silent := sorted(layers - said)):
        raise WeightsError(
            f"clamps {root}{min(said)} (conv_clamp) and not {root}{silent[0]}; only one clamp for all layers is known here."
        )
    first = next(iter(clamps), "")
    for key, value in clamps.items():
        if value != clamps[first]:
            raise WeightsError(
                f"has several clamps: {root}{first} is {clamps[first]!r} and {root}{key} is {value!r}; only one for all layers "
                "is known here."
            )
    return clamps.get(first)


# --------------------------------------------------------------------------------------------------------- PyTorch era


def _port_nvidia(state: State, settings: Settings) -> Ported:
    root, own, notes = generator(state, *_PYTORCH)
    own = {k: v for k, v in own.items() if k.startswith(("mapping.", "synthesis."))}
    if not any(
        key.startswith((f"{root}synthesis.", f"{root}mapping.", f"{root}init_kwargs.")) for key in settings.about
    ):
        notes = (*notes, _SILENT)
    return finish(own, notes, _clamp_of(root, settings, _layers(own)))


def _layers(state: Mapping[str, Tensor]) -> set[str]:
    return {found[1] for key in state if (found := re.match(_LAYERS, key))}


# ------------------------------------------------------------------------------------------------------ TensorFlow era

_TF_LAYERS = {"Conv": "conv1", "Conv0_up": "conv0", "Conv1": "conv1", "ToRGB": "torgb"}
_TF_PARTS: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "weight": ("weight", lambda t: t.permute(3, 2, 0, 1)),
    "bias": ("bias", lambda t: t),
    "noise_strength": ("noise_strength", lambda t: t.reshape(())),
    "mod_weight": ("affine.weight", lambda t: t.t()),
    "mod_bias": ("affine.bias", lambda t: t + 1),
}


def _port_tensorflow(state: State, settings: Settings) -> Ported:
    root, own, notes = generator(state, *_TENSORFLOW)
    named = [_from_tensorflow(key, value) for key, value in own.items() if key != "lod" and not key.endswith(".lod")]
    return finish(dict(named), notes, _clamp_of(root, settings, set()))


def _from_tensorflow(key: str, value: Tensor) -> tuple[str, Tensor]:
    """A variable as NVIDIA's PyTorch program names and stores it."""
    if key == "dlatent_avg":
        return "mapping.w_avg", value
    if key == _TENSORFLOW[0]:
        return "synthesis.b4.const", changed(key, value, lambda t: t[0])
    if found := re.fullmatch(r"mapping\.Dense(\d+)\.(weight|bias)", key):
        return f"mapping.fc{found[1]}.{found[2]}", changed(key, value, torch.t) if found[2] == "weight" else value
    if found := re.fullmatch(r"synthesis\.noise(\d+)", key):
        return f"synthesis.noise{found[1]}.noise_const", value
    if key.startswith("mapping.Label"):
        return "mapping.embed", value
    found = re.fullmatch(r"synthesis\.(\d+)x\1\.(\w+)\.(\w+)", key)
    if found is None or found[2] not in _TF_LAYERS or found[3] not in _TF_PARTS:
        raise WeightsError(f'a StyleGAN2 of another architecture than "skip": it holds {key}. It cannot be used here.')
    part, change = _TF_PARTS[found[3]]
    value = changed(key, value, change)
    value = value.flip(2, 3) if (found[2], part) == ("Conv0_up", "weight") else value
    return f"synthesis.b{found[1]}.{_TF_LAYERS[found[2]]}.{part}", value


LAYOUTS: tuple[Layout, ...] = (
    Layout("NVIDIA StyleGAN2 (PyTorch)", matcher(*_PYTORCH), _port_nvidia),
    Layout("NVIDIA StyleGAN2 (TensorFlow)", matcher(*_TENSORFLOW), _port_tensorflow),
)
