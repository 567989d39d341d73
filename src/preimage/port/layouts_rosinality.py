"""StyleGAN2 checkpoints of rosinality's program, and the decoders of pSp, e4e and ReStyle, which are built on it.

They differ from NVIDIA's in names and in axes of size one, and keep no settings beside their tensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from torch import Tensor

from preimage.errors import WeightsError
from preimage.port.layout import Layout, Ported, Settings, State
from preimage.port.stylegan2_keys import RATE, changed, finish, generator, matcher

_MARKS = ("input.input", "conv1.conv.modulation.weight")  # two keys of such a generator, whatever stands before them
_ASSUMED = (
    "the rate of the mapping network (lr_mlp) leaves no trace in this layout; rosinality's default, 0.01, is assumed. If it was "
    "trained with another, convert it again with --lr-mlp"
)


def _side(layer: str, index: str) -> tuple[int, str]:
    """Side and our name of the layer that rosinality calls `convs.3` or `to_rgbs.0`."""
    i = int(index)
    return (2 ** (i // 2 + 3), f"conv{i % 2}") if layer == "convs" else (2 ** (i + 3), "torgb")


def _layer(prefix: str) -> str:
    """`conv1`, `to_rgb1`, `convs.3`, `to_rgbs.0` -> the beginning of our keys."""
    if prefix in ("conv1", "to_rgb1"):
        return f"synthesis.b4.{'conv1' if prefix == 'conv1' else 'torgb'}"
    side, name = _side(*prefix.split("."))
    return f"synthesis.b{side}.{name}"


_LAYER = r"(conv1|to_rgb1|convs\.\d\d?|to_rgbs\.\d\d?)\."
_RULES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"style\.(\d+)\.(weight|bias)", lambda m: f"mapping.fc{int(m[1]) - 1}.{m[2]}"),
    (r"latent_avg", lambda m: "mapping.w_avg"),
    (r"input\.input", lambda m: "synthesis.b4.const"),
    (_LAYER + r"conv\.weight", lambda m: f"{_layer(m[1])}.weight"),
    (_LAYER + r"conv\.modulation\.(weight|bias)", lambda m: f"{_layer(m[1])}.affine.{m[2]}"),
    (_LAYER + r"noise\.weight", lambda m: f"{_layer(m[1])}.noise_strength"),
    (_LAYER + r"(?:activate\.)?bias", lambda m: f"{_layer(m[1])}.bias"),
    (_LAYER + r"(?:conv\.blur|upsample)\.kernel", lambda m: f"{_layer(m[1])}.resample_filter"),
    (r"noises\.noise_(\d+)", lambda m: f"synthesis.noise{m[1]}.noise_const"),
)


def _port_rosinality(state: State, settings: Settings) -> Ported:
    _, own, notes = generator(state, *_MARKS)
    mean = next((v for k, v in state.items() if k.rpartition(".")[2] == "latent_avg"), None)
    own = own if mean is None else {"latent_avg": mean, **own}
    own = {k: v for k, v in own.items() if re.match(r"style\.|latent_avg$|input\.|conv1\.|to_rgb|convs\.|noises\.", k)}
    ours = {_ours(key): changed(key, value, partial(_without_ones, key)) for key, value in own.items()}
    if settings.lr_mlp is None:
        return finish(ours, (*notes, _ASSUMED))
    for key in [key for key in ours if key.startswith("mapping.fc")]:
        ours[key] = ours[key].float() * (settings.lr_mlp / RATE)
        if not bool(ours[key].isfinite().all()):
            raise WeightsError(f"--lr-mlp {settings.lr_mlp}: makes {key} larger than a number can be; check the rate.")
    said = (
        f"the mapping network was said to have the rate {settings.lr_mlp} (--lr-mlp); its weights are scaled to {RATE}"
    )
    return finish(ours, (*notes, said))


def _ours(key: str) -> str:
    for rule, name in _RULES:
        if found := re.fullmatch(rule, key):
            return name(found)
    raise WeightsError(f"holds {key}, which no StyleGAN2 of rosinality's layout has.")


def _without_ones(key: str, value: Tensor) -> Tensor:
    """Without the axes of size one that rosinality keeps."""
    if key == "input.input" or key.endswith("conv.weight"):
        return value[0]
    if key.endswith("noise.weight"):
        return value.reshape(())
    return value.flatten() if key.endswith("bias") else value


LAYOUTS: tuple[Layout, ...] = (
    Layout("decoder of pSp, e4e or ReStyle", matcher(*_MARKS, decoder=True), _port_rosinality, silent_rate=True),
    Layout("rosinality StyleGAN2", matcher(*_MARKS, decoder=False), _port_rosinality, silent_rate=True),
)
