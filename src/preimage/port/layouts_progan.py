"""Checkpoints of akanimax's pro_gan_pytorch, the ProGAN library that SR-NAM used: its 2019 and its version 3 layout.

Both name their layers alike (`conv_1`, `conv_2`, `rgb_converters.{i}`, sizes counted from 4x4) and differ in where the first
block stands: `initial_block` in 2019, `layers.0` in version 3. Neither normalises after the first 4x4 layer; only version 3
normalises the latent. A convolution's stored weight is multiplied at run time by a constant, its equalised learning rate:
sqrt(2 / fan_in), where fan_in of the first, transposed convolution counts one pixel. The library's first releases (2018) stored
`conv_1.deconv.weight` and `conv_2.conv.weight` and took for that constant the root mean square of what they had drawn.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from preimage.errors import WeightsError
from preimage.generate.progan import ProGANConfig
from preimage.nets.layers import SQRT2
from preimage.port.layout import Layout, Ported, State

_RGB = re.compile(r"(.*?)rgb_converters\.0\.(?:conv\.)?weight")
_PLAIN = "its convolutions are plain ones (use_eql=False), to judge by the size of their weights."
_ESTIMATED = (
    "the file leaves out the constants that its 2018 release multiplied weights with; their expected values were taken, so "
    "colours may be off by one or two in a hundred."
)


@dataclass(frozen=True)
class _Layer:
    """A stored convolution: its weight, the constant of its learning rate, its bias."""

    weight: Tensor
    scale: float
    bias: Tensor

    def ours(self, fan_in: int, activated: bool = True) -> tuple[Tensor, Tensor]:
        """Weight and bias for a layer of ours, which scales by 1 / sqrt(fan_in) and, if activated, by sqrt(2) at its end."""
        gain = SQRT2 if activated else 1.0
        return self.weight * (self.scale * math.sqrt(fan_in) / gain), self.bias / gain


def _prefix(state: State) -> str | None:
    """What precedes the generator's keys; of several generators, the moving average (`shadow`)."""
    found = [match[1] for key in state if (match := _RGB.fullmatch(key))]
    return min(found, key=lambda prefix: ("shadow" not in prefix, len(prefix)), default=None)


def _matches_2019(state: State) -> bool:
    prefix = _prefix(state)
    return prefix is not None and any(key.startswith(f"{prefix}initial_block.conv_1.") for key in state)


def _matches_v3(state: State) -> bool:
    prefix = _prefix(state)
    first = state.get(f"{prefix}layers.0.conv_1.weight")
    return first is not None and first.shape[2:] == (4, 4) and not _matches_2019(state)


def _layer(state: State, name: str, plain: bool, transposed: bool = False) -> _Layer:
    """The convolution of this name in any release's naming; a plain one has no constant."""
    inner = next((i for i in ("", ".conv", ".deconv") if f"{name}{i}.weight" in state), None)
    if inner is None or f"{name}.bias" not in state:
        raise WeightsError(
            f"{name}: its weight or bias is missing. The checkpoint is incomplete; fetch or save it again."
        )
    weight, bias = state[f"{name}{inner}.weight"].float(), state[f"{name}.bias"].float()
    if weight.ndim != 4 or not weight.numel() or bias.shape != (weight.shape[1 if transposed else 0],):
        raise WeightsError(
            f"{name}: weight {tuple(weight.shape)} and bias {tuple(bias.shape)} are not those of a convolution."
        )
    if plain:
        return _Layer(weight, 1.0, bias)
    if inner:  # 2018; a transposed kernel's fan_in is what torch's initialisation counts, outputs times taps
        scale = 1.0 / math.sqrt(weight[0].numel())
        return _Layer(weight, scale, bias + state.get(f"{name}{inner}.bias", torch.zeros(())).float())
    fan_in = weight.shape[0] if transposed else weight[0].numel()
    return _Layer(weight, math.sqrt(2.0 / fan_in), bias)


def _port(state: State, version: int) -> Ported:
    prefix = _prefix(state) or ""
    first = f"{prefix}initial_block" if version == 2019 else f"{prefix}layers.0"
    depth = sum(bool(re.fullmatch(rf"{re.escape(prefix)}rgb_converters\.\d+\.(conv\.)?weight", key)) for key in state)
    names = [first, *(f"{prefix}layers.{i + (version != 2019)}" for i in range(depth - 1))]
    # equalised weights are drawn from N(0, 1), plain ones a hundred times smaller
    drawn = state.get(f"{first}.conv_2.weight")
    plain = drawn is not None and float(drawn.float().square().mean()) < 0.04
    layers = [(_layer(state, f"{n}.conv_1", plain, n == first), _layer(state, f"{n}.conv_2", plain)) for n in names]
    rgb = [_layer(state, f"{prefix}rgb_converters.{i}", plain) for i in range(depth)]
    notes: tuple[str, ...] = (_PLAIN,) if plain else ()
    if f"{prefix}rgb_converters.0.conv.weight" in state:
        notes += (_ESTIMATED,)

    trained = depth
    while trained > 1 and not rgb[trained - 1].bias.any() and not layers[trained - 1][0].bias.any():
        trained -= 1  # biases start at zero, and no training leaves all of them there
    if trained < depth and rgb[0].bias.any():
        notes += (f"sizes above {4 << (trained - 1)} px were never trained; they are left out.",)
        depth, layers, rgb = trained, layers[:trained], rgb[:trained]

    config = _config(layers, rgb, version)
    ported: dict[str, Tensor] = {}
    for i, pair in enumerate(layers):
        for j, layer in enumerate(pair):
            fan_in = layer.weight.shape[0] if i == j == 0 else layer.weight[0].numel()
            ported[f"blocks.{i}.conv{j}.weight"], ported[f"blocks.{i}.conv{j}.bias"] = layer.ours(fan_in)
        fan_in = rgb[i].weight[0].numel()
        ported[f"torgb.{i}.weight"], ported[f"torgb.{i}.bias"] = rgb[i].ours(fan_in, activated=False)
    return Ported("progan", asdict(config), ported, notes)


def _config(layers: list[tuple[_Layer, _Layer]], rgb: list[_Layer], version: int) -> ProGANConfig:
    """The shape that these layers have, read from their sizes.

    Raises:
        WeightsError: not three colours, or widths that do not halve from size to size.
    """
    colours = rgb[0].weight.shape[0]
    if colours != 3:
        raise WeightsError(
            f"this ProGAN makes pictures of {colours} channels; preimage works with RGB, three channels."
        )
    widths = [second.weight.shape[0] for _, second in layers]
    z_dim, side = layers[0][0].weight.shape[0], 4 << (len(layers) - 1)
    config = ProGANConfig(side, widths[-1] * side, max(widths), z_dim, version != 2019, False)
    expected = [config.channels(s) for s in config.resolutions]
    inputs = [z_dim, *expected]
    for i, (one, two) in enumerate(layers):
        shapes = [tuple(layer.weight.shape) for layer in (one, two, rgb[i])]
        c, kernel = expected[i], (3, 3)
        wanted = [(z_dim, c, 4, 4) if i == 0 else (c, inputs[i], *kernel), (c, c, *kernel), (3, c, 1, 1)]
        if shapes != wanted:
            raise WeightsError(
                f"the {4 << i} px layers of this ProGAN have the shapes {shapes}, where {wanted} would fit the others; it is "
                "not a network of the published kind."
            )
    return config


LAYOUTS: tuple[Layout, ...] = (
    Layout("akanimax ProGAN (2019)", _matches_2019, lambda state, _: _port(state, 2019)),
    Layout("akanimax ProGAN (version 3)", _matches_v3, lambda state, _: _port(state, 3)),
)
