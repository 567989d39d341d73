"""Published DeepSEE checkpoints: random ones in their layout, answered as the description of their forward pass says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from preimage.declaration import declared
from preimage.errors import WeightsError
from preimage.port.deepsee import convert_deepsee, load_deepsee
from preimage.weights import load_upsampler

REGIONS = 19


def random_files(doublings: int, width: int = 6, hidden: int = 8, nef: int = 2, noise: bool = True):
    """The tensors of `net_SR` and `net_E`, all random, with what nothing uses."""
    rng = torch.Generator().manual_seed(0)

    def draw(*shape: int, std: float = 0.3) -> torch.Tensor:
        return torch.randn(shape, generator=rng) * std

    def conv(state, key, a, b, size=3, bias=True, spectral=False):
        weight = draw(b, a, size, size)
        if spectral:
            u = F.normalize(draw(b), dim=0)
            state |= {f"{key}.weight_orig": weight, f"{key}.weight_u": u}
            state[f"{key}.weight_v"] = F.normalize(weight.flatten(1).t() @ u, dim=0)
        else:
            state[f"{key}.weight"] = weight
        if bias:
            state[f"{key}.bias"] = draw(b)

    g: dict[str, torch.Tensor] = {}
    conv(g, "initial", 3, width)
    names = ["head_0", "middle_0", "middle_1", *(f"up_list.{i}" for i in range(doublings - 1))]
    for name in names:
        level = {"head_0": 0, "middle_0": 1, "middle_1": 1}.get(name, int(name[-1]) + 2)
        for i in (0, 1):
            conv(g, f"{name}.conv_{i}", width, width, spectral=True)
            norm = f"{name}.norm_{i}"
            g[f"{norm}.param_free_norm.running_mean"] = draw(width)
            g[f"{norm}.param_free_norm.running_var"] = draw(width).square() + 0.5
            g[f"{norm}.param_free_norm.num_batches_tracked"] = torch.tensor(7)
            conv(g, f"{norm}.mlp_shared.0", REGIONS, hidden)
            if level < 5:
                conv(g, f"{norm}.mlp_gamma", hidden, width)
                conv(g, f"{norm}.mlp_beta", hidden, width)
            if level > 0:
                g[f"{norm}.style_conv.weight"] = draw(REGIONS, REGIONS, 1)
                conv(g, f"{norm}.mlp_style_gamma", hidden, width)
                conv(g, f"{norm}.mlp_style_beta", hidden, width)
            if 0 < level < 5:
                g[f"{norm}.alpha_gamma"], g[f"{norm}.alpha_beta"] = draw(), draw()
        if noise:
            for place in ("in", "skip", "middle"):
                g[f"{name}.noise_{place}.weight"] = draw(width)
    conv(g, "conv_img", width, 3)

    e: dict[str, torch.Tensor] = {"noise_weights": draw(REGIONS)}
    for branch, layers in (
        ("encoder_full", ("initial.0.0", "down0.0.0", "down1.0.0", "up_conv.1.0")),
        ("encoder_mini", ("initial.0.0", "conv0.0.0", "conv1.0.0", "conv2.1.0")),
    ):
        for k, layer in enumerate(layers):
            conv(e, f"{branch}.{layer}", 3 if k == 0 else nef << (k - 1), nef << k, bias=False, spectral=True)
        conv(e, f"{branch}.final.0.0", nef * 8, hidden, bias=False, spectral=True)
    conv(e, "final.0.0", nef * 8, hidden, bias=False, spectral=True)
    return g, e


def normalised(state, key):
    weight = state[f"{key}.weight_orig"]
    return weight / (state[f"{key}.weight_u"] @ weight.flatten(1) @ state[f"{key}.weight_v"])


def plain(state, key, x):
    return F.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], padding=1)


def described_styles(e, picture, mask, branch):
    """Section 4.3 of the description: convolution, instance norm and leaky ReLU; the mean over the whole picture of each region."""
    full = branch == "encoder_full"
    layers = (
        ("initial.0.0", "down0.0.0", "down1.0.0", "up_conv.1.0")
        if full
        else ("initial.0.0", "conv0.0.0", "conv1.0.0", "conv2.1.0")
    )
    x = picture * 2 - 1
    for k, layer in enumerate(layers):
        if k == 3:
            x = F.interpolate(x, scale_factor=2)
        x = F.conv2d(x, normalised(e, f"{branch}.{layer}"), stride=2 if full and k in (1, 2) else 1, padding=1)
        x = F.leaky_relu(F.instance_norm(x), 0.2)
    x = F.instance_norm(F.conv2d(x, normalised(e, "final.0.0"), padding=1)).tanh()
    small = F.interpolate(mask, x.shape[-2:], mode="nearest")
    return torch.stack([(x * small[:, k : k + 1]).mean((2, 3)) for k in range(REGIONS)], 1)


def described_pictures(g, photo, mask, style, legacy):
    """Section 4.2, place by place, with the style map as such."""
    blocks = sorted({key.split(".")[1] for key in g if key.startswith("up_list")}, key=int)
    x = plain(g, "initial", photo * 2 - 1)

    def norm(name, x, level):
        mean, var = (g[f"{name}.param_free_norm.running_{k}"][:, None, None] for k in ("mean", "var"))
        x = (x - mean) / (var + 1e-5).sqrt()
        capped = F.interpolate(mask, (min(x.shape[-1], 256),) * 2, mode="nearest")
        said = F.interpolate(F.relu(plain(g, f"{name}.mlp_shared.0", capped)), x.shape[-2:], mode="nearest")
        if level == 0:
            return x * (1 + plain(g, f"{name}.mlp_gamma", said)) + plain(g, f"{name}.mlp_beta", said)
        drawn = torch.einsum("nkhw,nkd->ndhw", F.interpolate(mask, x.shape[-2:], mode="nearest"), style)
        if level >= 5 and legacy:
            drawn = said
        gamma, beta = plain(g, f"{name}.mlp_style_gamma", drawn), plain(g, f"{name}.mlp_style_beta", drawn)
        if level >= 5:
            return x * gamma + beta
        a, b = torch.sigmoid(g[f"{name}.alpha_gamma"]), torch.sigmoid(g[f"{name}.alpha_beta"])
        scale = 1 + a * gamma + (1 - a) * plain(g, f"{name}.mlp_gamma", said)
        return x * scale + b * beta + (1 - b) * plain(g, f"{name}.mlp_beta", said)

    def block(name, x, level):
        y = x
        for i in (0, 1):
            y = F.leaky_relu(norm(f"{name}.norm_{i}", y, level), 0.2)
            y = F.conv2d(y, normalised(g, f"{name}.conv_{i}"), g[f"{name}.conv_{i}.bias"], padding=1)
        return x + y

    x = block("head_0", x, 0)
    x = F.interpolate(x, scale_factor=2)
    x = block("middle_1", block("middle_0", x, 1), 1)
    for i in blocks:
        x = block(f"up_list.{i}", F.interpolate(x, scale_factor=2), int(i) + 2)
    return (plain(g, "conv_img", F.leaky_relu(x, 0.2)).tanh() + 1) / 2


def inputs(lr_size: int, resolution: int):
    rng = torch.Generator().manual_seed(1)
    labels = torch.randint(0, REGIONS, (1, resolution // 4, resolution // 4), generator=rng)
    mask = F.one_hot(labels.repeat_interleave(4, 1).repeat_interleave(4, 2), REGIONS).permute(0, 3, 1, 2).float()
    return (
        torch.rand(1, 3, lr_size, lr_size, generator=rng),
        torch.rand(1, 3, resolution, resolution, generator=rng),
        mask,
    )


@pytest.mark.parametrize(("doublings", "lr_size"), [(3, 4), (5, 16)])
@pytest.mark.parametrize("legacy", [True, False])
def test_pictures_and_styles_as_described(doublings, lr_size, legacy):
    g, e = random_files(doublings) if doublings == 3 else random_files(doublings, 4, 4, 1, noise=False)
    network = load_deepsee(g, e, lr_size, legacy_512=legacy)
    photo, truth, mask = (x.double() for x in inputs(lr_size, lr_size << doublings))
    network.double()
    g, e = ({key: x.double() if x.is_floating_point() else x for key, x in state.items()} for state in (g, e))
    with torch.no_grad():
        for picture, branch, sharp in ((photo, "encoder_mini", False), (truth, "encoder_full", True)):
            assert torch.allclose(
                network.encode(picture, mask, sharp).double(), described_styles(e, picture, mask, branch), atol=1e-5
            )
        style = described_styles(e, photo, mask, "encoder_mini") * 20
        expected = described_pictures(g, photo, mask, style, legacy and doublings == 5)
        assert torch.allclose(network(photo, mask, style), expected.float(), atol=1e-5)
    assert (network.config.noise, network.config.pooling) == (doublings == 3, "image")


def test_the_512_pixel_quirk_is_the_default_where_there_is_such_a_block():
    g, e = random_files(5, width=2, hidden=3, nef=1)
    network = load_deepsee(g, e, 4)
    assert network.config.legacy_512
    assert load_deepsee(g, e, 4, legacy_512=False).config.legacy_512 is False
    assert not load_deepsee(*random_files(3, width=2, hidden=3, nef=1), 4).config.legacy_512


def test_files_become_one_of_ours(tmp_path):
    g, e = random_files(3)
    torch.save(g, tmp_path / "latest_net_SR.pth")
    torch.save(e, tmp_path / "latest_net_E.pth")
    path = convert_deepsee(tmp_path / "latest_net_SR.pth", tmp_path / "latest_net_E.pth", tmp_path / "d.safetensors", 4)
    network, expected = load_upsampler(path), load_deepsee(g, e, 4)
    assert all(torch.equal(x, network.state_dict()[key]) for key, x in expected.state_dict().items())
    found = declared(network)
    assert found is not None
    assert (found.looked_through, found.degradations, found.hr_size) == (("vgg19",), ("bicubic",), 32)


def test_other_files_are_refused():
    g, e = random_files(3)
    for generator, encoder in (
        (e, g),
        ({k: x for k, x in g.items() if not k.startswith("middle_1.conv_0")}, e),
        (g | {"up_list.1.norm_0.mlp_gamma.weight": torch.zeros(1, 1, 3, 3)}, e),
        (g, {k: x for k, x in e.items() if "encoder_mini" not in k}),
        ({}, {}),
    ):
        with pytest.raises(WeightsError, match=r"not DeepSEE's network: .* Give <epoch>_net_SR"):
            load_deepsee(generator, encoder, 4)
