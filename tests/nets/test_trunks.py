"""LPIPS's trunks: names, sizes and order of layers of the public files, taps, normalisation, smallest pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from preimage.errors import WeightsError
from preimage.nets.features import FEATURE_NETWORKS, FeatureNetwork, SqueezeNet
from preimage.nets.trunks import VGG16, AlexNet, SqueezeNet11, Trunk

TRUNKS = {"alex": AlexNet, "vgg": VGG16, "squeeze": SqueezeNet11}
# torchvision's layers: index of each convolution and (channels out, channels in, kernel)
ALEXNET = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
VGG = {
    0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256),
    17: (512, 256), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512),
}  # fmt: skip
FIRES = {
    3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128),
    9: (256, 48, 192), 10: (384, 48, 192), 11: (384, 64, 256), 12: (512, 64, 256),
}  # fmt: skip


def convolution(key: str, out: int, into: int, kernel: int) -> dict[str, tuple[int, ...]]:
    return {f"{key}.weight": (out, into, kernel, kernel), f"{key}.bias": (out,)}


def public_shapes(name: str) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    if name == "alex":
        for i, (out, into, kernel) in ALEXNET.items():
            shapes |= convolution(f"features.{i}", out, into, kernel)
    elif name == "vgg":
        for i, (out, into) in VGG.items():
            shapes |= convolution(f"features.{i}", out, into, 3)
    else:
        shapes |= convolution("features.0", 64, 3, 3)
        for i, (into, squeeze, expand) in FIRES.items():
            shapes |= convolution(f"features.{i}.squeeze", squeeze, into, 1)
            shapes |= convolution(f"features.{i}.expand1x1", expand, squeeze, 1)
            shapes |= convolution(f"features.{i}.expand3x3", expand, squeeze, 3)
    return shapes


@pytest.mark.parametrize(("name", "count"), [("alex", 2_469_696), ("vgg", 14_714_688), ("squeeze", 722_496)])
def test_names_and_sizes_are_those_of_the_public_files(name: str, count: int) -> None:
    trunk = TRUNKS[name]()
    assert {key: tuple(value.shape) for key, value in trunk.state_dict().items()} == public_shapes(name)
    assert sum(p.numel() for p in trunk.parameters()) == count


def normalised(x: Tensor) -> Tensor:
    """As torchvision prepares pictures in [0, 1] for its networks."""
    mean, spread = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (x - mean.view(3, 1, 1)) / spread.view(3, 1, 1)


def by_hand(name: str, trunk: Trunk, x: Tensor) -> list[Tensor]:
    """The taps from the convolutions of the file alone, layer after layer as the papers list them."""
    state, x, out = trunk.state_dict(), normalised(x), []

    def conv(key: str, x: Tensor, **options: int) -> Tensor:
        return F.relu(F.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], **options))

    if name == "alex":
        for i, options in {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)}.items():
            x = F.max_pool2d(x, 3, 2) if i in (3, 6) else x
            x = conv(f"features.{i}", x, stride=options[0], padding=options[1])
            out.append(x)
    elif name == "vgg":
        for i in VGG:
            x = F.max_pool2d(x, 2, 2) if i in (5, 10, 17, 24) else x
            x = conv(f"features.{i}", x, padding=1)
            out += [x] if i in (2, 7, 14, 21, 28) else []
    else:
        x = conv("features.0", x, stride=2)
        out.append(x)
        for i in FIRES:
            x = F.max_pool2d(x, 3, 2, ceil_mode=True) if i in (3, 6, 9) else x
            x = conv(f"features.{i}.squeeze", x)
            x = torch.cat([conv(f"features.{i}.expand1x1", x), conv(f"features.{i}.expand3x3", x, padding=1)], 1)
            out += [x] if i in (4, 7, 9, 10, 11, 12) else []
    return out


@pytest.mark.parametrize("name", TRUNKS)
def test_taps_are_the_layers_of_the_paper(name: str) -> None:
    trunk, x = TRUNKS[name]().eval(), torch.rand(2, 3, 70, 64)
    with torch.inference_mode():
        taps, expected = trunk(x), by_hand(name, trunk, x)
    assert len(taps) == len(trunk.taps) == len(trunk.channels)
    assert trunk.channels == tuple(t.shape[1] for t in taps)
    for tap, other in zip(taps, expected, strict=True):
        torch.testing.assert_close(tap, other, rtol=1e-4, atol=1e-5)


SIDES: dict[str, type[FeatureNetwork]] = {**TRUNKS, **FEATURE_NETWORKS}


@pytest.mark.parametrize("name", SIDES)
def test_the_smallest_picture_is_the_smallest(name: str) -> None:
    network = SIDES[name]().eval()
    side = network.smallest
    assert 1 < side <= 64
    with torch.inference_mode():
        assert all(tap.numel() for tap in network(torch.rand(1, 3, side, side)))
        with pytest.raises(RuntimeError):
            network(torch.rand(1, 3, side - 1, side - 1))


@pytest.mark.parametrize("name", TRUNKS)
def test_classifiers_are_passed_over_and_nothing_else(tmp_path: Path, name: str) -> None:
    state = dict(TRUNKS[name]().state_dict())
    path = tmp_path / "a.safetensors"
    rest = ("classifier.1.weight", "pre_logits.fc1.weight", "head.fc.bias")
    save_file({**state, **{key: torch.zeros(2) for key in rest}}, path)
    loaded = TRUNKS[name].from_file(path)
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())
    assert not any(p.requires_grad for p in loaded.parameters())
    assert not loaded.official  # a file by itself proves nothing
    save_file({**state, "features.99.weight": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match=r"(?s)a\.safetensors: not a .*features\.99\.weight"):
        TRUNKS[name].from_file(path)


def test_both_squeezenets_are_one_network() -> None:
    """Other names, other normalisation, the same layers: equal weights and equal inputs of conv1 give equal taps."""
    keras, public = SqueezeNet().eval(), SqueezeNet11().eval()
    names = {"conv1": "features.0", **{f"fire{i}": f"features.{j}" for i, j in zip(range(2, 10), FIRES, strict=True)}}
    state = {
        key.replace(key.split(".")[0], names[key.split(".")[0]], 1).replace("squeeze1x1", "squeeze"): value
        for key, value in keras.state_dict().items()
    }
    public.load_state_dict(state)
    x = torch.rand(2, 3, 65, 80)
    same = ((normalised(x) + keras.mean) / 255).flip(1)
    with torch.inference_mode():
        default = keras(same)
        assert keras.select(public.taps) is keras
        every = keras(same)
        expected = public(x)
    assert keras.channels == public.channels
    for tap, other in zip(every, expected, strict=True):
        torch.testing.assert_close(tap, other, rtol=1e-3, atol=1e-4)
    for tap, i in zip(default, (0, 1, 2, 6), strict=True):
        assert torch.equal(tap, every[i])
    assert SqueezeNet.taps == SqueezeNet().taps == ("conv1", "fire3", "fire5", "fire9")  # others keep theirs
