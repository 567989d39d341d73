"""StyleGAN: published shapes and counts, the published forward pass; what it shares with StyleGAN2: test_style_prior.py."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from preimage.generate.stylegan import FUSED_FROM, StyledConv, StyleGAN, StyleGANConfig

TALL = StyleGANConfig(resolution=128, channel_base=256, channel_max=4, z_dim=6, w_dim=6, mapping_layers=1)


# ------------------------------------------------------------------------------------------------------------- shapes


def test_the_published_network_at_1024():
    config = StyleGANConfig()
    assert (config.resolution, config.rows, config.w_dim, config.mapping_layers) == (1024, 18, 512, 8)
    assert config.noise_sizes == tuple(2 ** (i // 2 + 2) for i in range(18))  # as PULSE's program counts them
    widths = {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64, 512: 32, 1024: 16}
    assert {side: config.channels(side) for side in config.resolutions} == widths


def test_published_parameter_count():
    # the layer table of the FFHQ network: side, width in (0: the constant), width out
    table = [(4, 0, 512), (8, 512, 512), (16, 512, 512), (32, 512, 512), (64, 512, 256), (128, 256, 128)]
    table += [(256, 128, 64), (512, 64, 32), (1024, 32, 16)]
    total = 8 * (512 * 512 + 512)  # mapping
    for _, before, width in table:
        end = width + width + (512 * 2 * width + 2 * width)  # bias, noise, style
        total += (before * width * 9 if before else width * 4 * 4) + end
        total += width * width * 9 + end
    total += 16 * 3 + 3  # RGB of the last size
    with torch.device("meta"):
        found = sum(p.numel() for p in StyleGAN(StyleGANConfig()).parameters())
    assert found == total == 26_212_019
    # its authors count 26,219,627: with the RGB layers of the smaller sizes, idle once the network has grown
    assert total + sum(width * 3 + 3 for side, _, width in table if side < 1024) == 26_219_627


def test_names_and_shapes(tiny_stylegan):
    state = {k: tuple(v.shape) for k, v in tiny_stylegan.state_dict().items()}
    layer = {"bias": (12,), "noise_strength": (12,), "affine.weight": (24, 14), "affine.bias": (24,)}
    assert {k: v for k, v in state.items() if k.startswith("synthesis.b4.")} == {
        "synthesis.b4.const": (12, 4, 4),
        "synthesis.b4.layer1.weight": (12, 12, 3, 3),
        **{f"synthesis.b4.layer{i}.{k}": v for i in (0, 1) for k, v in layer.items()},
    }
    assert state["synthesis.b16.layer0.weight"] == (8, 12, 3, 3)
    assert state["synthesis.torgb.weight"] == (3, 8, 1, 1)
    assert state["mapping.fc0.weight"] == (14, 10)
    assert {k for k in state if "." not in k} == {"fit_mean", "fit_std"}


# ------------------------------------------------------------------------------------------------------- forward pass


def enlarge(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The published up-convolution: nearest neighbour and a convolution below 128, the fused form from there on; blur."""
    side = 2 * x.shape[-1]
    if side < 128:
        x = F.conv2d(F.interpolate(x, size=(side, side), mode="nearest"), weight, padding=1)
    else:
        four = sum(F.pad(weight, (a, 1 - a, b, 1 - b)) for a in (0, 1) for b in (0, 1))
        x = F.conv_transpose2d(x, four.transpose(0, 1), stride=2, padding=1)
    blur = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    return F.conv2d(x, blur.expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])


def reference(state: dict[str, torch.Tensor], sides: tuple[int, ...], ws: torch.Tensor, noise: list[torch.Tensor]):
    """The published forward pass, layer by layer from a state dict, in [-1, 1]."""
    rows, maps, x = iter(ws.unbind(1)), iter(noise), None
    for side in sides:
        for k in (0, 1):
            name = f"synthesis.b{side}.layer{k}"
            if f"{name}.weight" in state:
                weight = state[f"{name}.weight"]
                weight = weight * math.sqrt(2 / weight[0].numel())  # equalised: He's gain at run time
                x = enlarge(x, weight) if k == 0 else F.conv2d(x, weight, padding=1)
            else:
                x = state["synthesis.b4.const"].expand(len(ws), -1, -1, -1)
            x = x + state[f"{name}.bias"][:, None, None] + next(maps) * state[f"{name}.noise_strength"][:, None, None]
            x = F.instance_norm(F.leaky_relu(x, 0.2))
            affine = state[f"{name}.affine.weight"]
            style = next(rows) @ affine.t() / math.sqrt(affine.shape[1]) + state[f"{name}.affine.bias"]
            scale, shift = style.view(len(ws), 2, -1, 1, 1).unbind(1)
            x = x * (scale + 1) + shift
    weight = state["synthesis.torgb.weight"]
    return F.conv2d(x, weight / math.sqrt(weight.shape[1]), state["synthesis.torgb.bias"])


@pytest.mark.parametrize("fused", [False, True])
def test_forward_equals_the_published_one(tiny_stylegan, random_style_prior, fused):
    prior = random_style_prior(TALL) if fused else tiny_stylegan
    config = prior.config
    torch.manual_seed(1)
    ws = torch.randn(2, config.rows, config.w_dim)
    noise = [torch.randn(2, 1, s, s) for s in config.noise_sizes]
    expected = (reference(prior.state_dict(), config.resolutions, ws, noise) + 1) / 2
    assert torch.allclose(prior.synthesize(ws, noise), expected, atol=1e-4)


def test_mapping_equals_its_formula(tiny_stylegan):
    prior, z = tiny_stylegan, torch.randn(4, 10)
    w = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
    for i in range(3):
        weight, bias = prior.state_dict()[f"mapping.fc{i}.weight"], prior.state_dict()[f"mapping.fc{i}.bias"]
        w = F.leaky_relu(w @ weight.t() * (math.sqrt(2 / w.shape[1]) * 0.01) + 0.01 * bias, 0.2)
    assert torch.allclose(prior.mapping(z), w, atol=1e-5)
    assert torch.allclose(prior.mapping(z * 7), w, atol=1e-5)  # only the direction of z counts


@pytest.mark.parametrize("side", [FUSED_FROM // 2, FUSED_FROM])
def test_the_two_enlargements_differ_by_half_a_turn_of_the_kernel(side):
    torch.manual_seed(0)
    x, one = torch.randn(1, 2, side // 2, side // 2), StyledConv(2, 3, 4, side).requires_grad_(False)
    other = StyledConv(2, 3, 4, FUSED_FROM if side < FUSED_FROM else FUSED_FROM // 2).requires_grad_(False)
    assert torch.allclose(one.enlarge(x), enlarge(x, one.weight * one.gain), atol=1e-5)
    other.weight.copy_(one.weight)
    assert not torch.allclose(one.enlarge(x), other.enlarge(x), atol=1e-2)
    other.weight.copy_(one.weight.flip(2, 3))
    assert torch.allclose(one.enlarge(x), other.enlarge(x), atol=1e-5)


def test_a_style_sets_mean_and_deviation_of_every_channel(tiny_stylegan):
    layer = tiny_stylegan.synthesis.b8.layer1
    w, x = torch.randn(2, 14), torch.randn(2, 12, 32, 32)
    scale, shift = layer.affine(w).chunk(2, dim=1)
    y = layer(x, w)
    assert torch.allclose(y.mean((2, 3)), shift, atol=1e-4)
    assert torch.allclose(y.std((2, 3), correction=0), (scale + 1).abs(), atol=1e-3)
