"""Checkpoints of pro_gan_pytorch: written by a small writer, drawn by a small reference, ported, and drawn by ours."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import WeightsError
from preimage.generate.progan import ProGAN, ProGANConfig
from preimage.port.layout import Ported
from preimage.port.layouts_progan import LAYOUTS
from preimage.weight_files import ARCHITECTURES

Net = dict[str, Tensor]
Make = Callable[[tuple[int, ...]], Tensor]
BY_NAME = {layout.name: layout for layout in LAYOUTS}
V2019, V3 = BY_NAME["akanimax ProGAN (2019)"], BY_NAME["akanimax ProGAN (version 3)"]


def normal(weight: float = 1.0, seed: int = 0) -> Make:
    """Random tensors, with biases that are heard."""
    rng = torch.Generator().manual_seed(seed)
    return lambda shape: torch.randn(shape, generator=rng) * (weight if len(shape) > 1 else 0.3)


def write(version: int, z_dim: int, widths: list[int], make: Make | None = None) -> Net:
    """A generator's state dictionary, as the library of 2019 or version 3 saves it."""
    make = make or normal()

    def layer(name: str, shape: tuple[int, ...], outputs: int) -> Net:
        return {f"{name}.weight": make(shape), f"{name}.bias": make((outputs,))}

    names = ["initial_block", *(f"layers.{i}" for i in range(len(widths) - 1))]
    if version == 3:
        names = [f"layers.{i}" for i in range(len(widths))]
    net = layer(f"{names[0]}.conv_1", (z_dim, widths[0], 4, 4), widths[0])
    net |= layer(f"{names[0]}.conv_2", (widths[0], widths[0], 3, 3), widths[0])
    for name, (before, width) in zip(names[1:], pairwise(widths), strict=True):
        net |= layer(f"{name}.conv_1", (width, before, 3, 3), width)
        net |= layer(f"{name}.conv_2", (width, width, 3, 3), width)
    for i, width in enumerate(widths):
        net |= layer(f"rgb_converters.{i}", (3, width, 1, 1), 3)
    return net


def he(weight: Tensor, transposed: bool) -> float:
    """The library's run-time constant since 2019: sqrt(2 / fan_in), with one pixel of fan-in where transposed."""
    return math.sqrt(2 / (weight.shape[0] if transposed else weight[0].numel()))


def draw(
    net: Net, version: int, z: Tensor, depth: int, alpha: float = 1.0, scale: Callable[[Tensor, bool], float] = he
) -> Tensor:
    """Pictures in [-1, 1] by the library's own forward pass; `depth` counts sizes from 1."""

    def norm(x: Tensor) -> Tensor:
        return x / (x.pow(2).mean(dim=1, keepdim=True) + 1e-8).sqrt()

    def conv(x: Tensor, name: str, pad: int = 1) -> Tensor:
        w = net[f"{name}.weight"]
        return F.conv2d(x, w * scale(w, False), net[f"{name}.bias"], padding=pad)

    def act(x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.2)

    first = "initial_block" if version == 2019 else "layers.0"
    w = net[f"{first}.conv_1.weight"]
    x = (norm(z) if version == 3 else z)[:, :, None, None]
    x = act(F.conv_transpose2d(x, w * scale(w, True), net[f"{first}.conv_1.bias"]))
    x = before = norm(act(conv(x, f"{first}.conv_2")))
    for i in range(1, depth):
        name, before = f"layers.{i - (version == 2019)}", x
        x = F.interpolate(x, scale_factor=2)
        x = norm(act(conv(x, f"{name}.conv_1")))
        x = norm(act(conv(x, f"{name}.conv_2")))
    picture = conv(x, f"rgb_converters.{depth - 1}", 0)
    if depth > 1 and alpha < 1:
        small = F.interpolate(conv(before, f"rgb_converters.{depth - 2}", 0), scale_factor=2)
        picture = alpha * picture + (1 - alpha) * small
    return picture


def ported(state: Net) -> Ported:
    """By the one layout that claims it."""
    (layout,) = [layout for layout in LAYOUTS if layout.matches(state)]
    return layout.port(state)


def built(found: Ported) -> ProGAN:
    module = ARCHITECTURES[found.architecture](found.config, "ported")
    module.load_state_dict(found.state)
    assert isinstance(module, ProGAN)
    return module.eval().requires_grad_(False)


@pytest.fixture
def z() -> Tensor:
    return torch.randn(4, 16, generator=torch.Generator().manual_seed(7)) * 1.7


WIDTHS = [16, 16, 16, 16, 8]


@pytest.mark.parametrize("version", [2019, 3])
@pytest.mark.parametrize(("alpha", "depth"), [(1.0, 5), (0.3, 5), (1.0, 3), (1.0, 1)])
def test_pictures_are_the_librarys(version, alpha, depth, z):
    net = write(version, 16, WIDTHS)
    found = ported(net)
    assert found.notes == ()
    picture = built(found)(z, depth, alpha)
    assert torch.allclose(picture * 2 - 1, draw(net, version, z, depth, alpha), atol=1e-4)


@pytest.mark.parametrize(
    ("version", "z_dim", "widths", "config"),
    [
        (2019, 512, [512, 512, 512, 512, 256], ProGANConfig(64, 16384, 512, 512, False, False)),  # SR-NAM's
        (2019, 64, [64] * 4 + [32, 16], ProGANConfig(128, 2048, 64, 64, False, False)),
        (2019, 32, [32, 32], ProGANConfig(8, 256, 32, 32, False, False)),
        (3, 256, [512] * 5 + [256], ProGANConfig(128, 32768, 512, 256, True, False)),
        (3, 512, [512] * 5 + [256, 128, 64, 32], ProGANConfig(1024, 32768, 512, 512, True, False)),
        (3, 16, [512], ProGANConfig(4, 2048, 512, 16, True, False)),
    ],
)
def test_sizes_are_read_from_the_shapes(version, z_dim, widths, config):
    found = ported(write(version, z_dim, widths, torch.ones(()).expand))
    assert ProGANConfig(**found.config) == config
    with torch.device("meta"):
        expected = {k: v.shape for k, v in ProGAN(config).state_dict().items()}
    assert {k: v.shape for k, v in found.state.items()} == expected


def test_the_two_layouts_hold_the_same_network(z):
    """Renamed, the weights give the same picture of latents on the sphere; off it, only version 3 puts them back."""
    old = write(2019, 16, WIDTHS)
    renamed = {}
    for key, value in old.items():
        if key.startswith("layers."):
            _, i, rest = key.split(".", 2)
            key = f"layers.{int(i) + 1}.{rest}"
        renamed[key.replace("initial_block", "layers.0")] = value
    one, two = built(ported(old)), built(ported(renamed))
    on_sphere = z / z.square().mean(dim=1, keepdim=True).sqrt()
    assert torch.allclose(one(on_sphere), two(z), atol=1e-4)
    assert (one(z) - two(z)).abs().mean() > 1e-3


def test_the_moving_average_is_taken_where_there_is_one(z):
    raw, average = write(3, 16, WIDTHS, normal(seed=1)), write(3, 16, WIDTHS, normal(seed=2))
    judge = {"from_rgb.0.0.weight": torch.randn(8, 3, 1, 1), "layers.0.conv_1.weight": torch.randn(8, 8, 3, 3)}
    full = {f"generator.state_dict.{k}": v for k, v in raw.items()}
    full |= {f"discriminator.state_dict.{k}": v for k, v in judge.items()}
    assert torch.allclose(built(ported(full))(z) * 2 - 1, draw(raw, 3, z, 5), atol=1e-4)
    full |= {f"shadow_generator.state_dict.{k}": v for k, v in average.items()}
    assert torch.allclose(built(ported(full))(z) * 2 - 1, draw(average, 3, z, 5), atol=1e-4)


def test_saved_from_several_gpus(z):
    net = write(2019, 16, WIDTHS)
    assert torch.allclose(
        built(ported({f"module.{k}": v for k, v in net.items()}))(z) * 2 - 1, draw(net, 2019, z, 5), atol=1e-4
    )


@pytest.mark.parametrize("two_biases", [False, True])
def test_the_first_releases(z, two_biases):
    """Their constants were measured on what was drawn and not saved: 1 / sqrt(fan_in) up to chance."""
    net, old = write(2019, 16, WIDTHS), {}
    for key, value in net.items():
        name, kind = key.rsplit(".", 1)
        inner = "deconv" if key.startswith("initial_block.conv_1") else "conv"
        if kind == "weight":
            old[f"{name}.{inner}.weight"] = value
        elif two_biases and inner == "conv":  # the very first had a second one inside
            old[f"{name}.bias"], old[f"{name}.conv.bias"] = value - 0.2, torch.full_like(value, 0.2)
        else:
            old[f"{name}.bias"] = value
    found = ported(old)
    assert any("2018 release" in note for note in found.notes)

    def expected(weight: Tensor, transposed: bool) -> float:
        # kaiming_normal_ with a = 1: 1 / sqrt(fan_in), for which torch counts inputs times taps, or outputs of a transposed one
        return torch.nn.init._calculate_fan_in_and_fan_out(weight)[0] ** -0.5

    picture = built(found)(z)
    assert torch.allclose(picture * 2 - 1, draw(net, 2019, z, 5, scale=expected), atol=1e-4)


@pytest.mark.parametrize("version", [2019, 3])
def test_plain_convolutions(z, version):
    net = write(version, 16, WIDTHS, normal(0.07))
    found = ported(net)
    assert any("use_eql=False" in note for note in found.notes)
    plain = draw(net, version, z, 5, scale=lambda weight, transposed: 1.0)
    assert torch.allclose(built(found)(z) * 2 - 1, plain, atol=1e-4)


@pytest.mark.parametrize("trained", [1, 3])
def test_sizes_that_were_never_trained_are_left_out(z, trained):
    net = write(2019, 16, WIDTHS)
    for i in range(trained, len(WIDTHS)):
        for name in (f"layers.{i - 1}.conv_1", f"layers.{i - 1}.conv_2", f"rgb_converters.{i}"):
            net[f"{name}.bias"] = torch.zeros_like(net[f"{name}.bias"])
    found = ported(net)
    side = 4 << (trained - 1)
    assert found.notes == (f"sizes above {side} px were never trained; they are left out.",)
    assert built(found).resolution == side
    assert torch.allclose(built(found)(z) * 2 - 1, draw(net, 2019, z, trained), atol=1e-4)


# ------------------------------------------------------------------------------------------------------------- refusals


def test_others_are_not_claimed():
    judge = {"final_block.conv_1.weight": torch.zeros(8, 9, 3, 3), "rgb_to_features.0.weight": torch.zeros(8, 3, 1, 1)}
    stylegan = {"g_ema.convs.0.conv.weight": torch.zeros(1, 8, 8, 3, 3), "g_ema.input.input": torch.zeros(1, 8, 4, 4)}
    ours = {k: v for k, v in ProGAN(ProGANConfig(8, 64, 8, 8)).state_dict().items()}
    for state in ({}, judge, stylegan, ours):
        assert not any(layout.matches(state) for layout in LAYOUTS)


@pytest.mark.parametrize("version", [2019, 3])
def test_what_does_not_fit_is_named(version):
    layout = V2019 if version == 2019 else V3
    net = write(version, 16, WIDTHS)
    grey = {**net, **{f"rgb_converters.{i}.weight": torch.ones(1, w, 1, 1) for i, w in enumerate(WIDTHS)}}
    grey |= {f"rgb_converters.{i}.bias": torch.ones(1) for i in range(5)}
    with pytest.raises(WeightsError, match="pictures of 1 channels"):
        layout.port(grey)
    for key in ("layers.1.conv_2.weight", "rgb_converters.3.bias"):
        with pytest.raises(WeightsError, match=rf"{key.rsplit('.', 1)[0]}: its weight or bias is missing"):
            layout.port({k: v for k, v in net.items() if k != key})
    with pytest.raises(WeightsError, match="are not those of a convolution"):
        layout.port({**net, "layers.1.conv_2.bias": torch.ones(5)})
    with pytest.raises(WeightsError, match="are not those of a convolution"):
        layout.port({**net, "layers.1.conv_2.weight": torch.ones(0, 16, 3, 3), "layers.1.conv_2.bias": torch.ones(0)})
    with pytest.raises(WeightsError, match="not a network of the published kind"):
        layout.port(write(version, 16, [16, 16, 12, 16, 8]))
    with pytest.raises(WeightsError, match="power of two from 4 to 1024"):
        layout.port(write(version, 2, [2] * 10))
