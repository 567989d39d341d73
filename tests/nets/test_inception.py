"""FID's Inception: names and sizes of the public file, its three peculiarities, its input."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from preimage.nets.inception import FIDInception, Mixed

# channels in and out of the convolutions of the public file, by block
BRANCHES = {
    35: "1x1 5x5_1 5x5_2 3x3dbl_1 3x3dbl_2 3x3dbl_3 _pool",
    17: "1x1 7x7_1 7x7_2 7x7_3 7x7dbl_1 7x7dbl_2 7x7dbl_3 7x7dbl_4 7x7dbl_5 _pool",
    8: "1x1 3x3_1 3x3_2a 3x3_2b 3x3dbl_1 3x3dbl_2 3x3dbl_3a 3x3dbl_3b _pool",
}
BLOCKS = {
    "Mixed_5b": BRANCHES[35], "Mixed_5c": BRANCHES[35], "Mixed_5d": BRANCHES[35],
    "Mixed_6a": "3x3 3x3dbl_1 3x3dbl_2 3x3dbl_3",
    "Mixed_6b": BRANCHES[17], "Mixed_6c": BRANCHES[17], "Mixed_6d": BRANCHES[17], "Mixed_6e": BRANCHES[17],
    "Mixed_7a": "3x3_1 3x3_2 7x7x3_1 7x7x3_2 7x7x3_3 7x7x3_4",
    "Mixed_7b": BRANCHES[8], "Mixed_7c": BRANCHES[8],
}  # fmt: skip
STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(scope="module")
def network() -> FIDInception:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FIDInception().requires_grad_(False)


def convolutions() -> list[str]:
    return [*STEM, *(f"{block}.branch{name}" for block, names in BLOCKS.items() for name in names.split())]


def test_names_are_those_of_the_public_file(network: FIDInception) -> None:
    keys = {f"{name}.conv.weight" for name in convolutions()}
    keys |= {f"{name}.bn.{part}" for name in convolutions() for part in NORM}
    assert len(convolutions()) == 94  # convolutions of Inception v3 without its auxiliary classifier
    assert set(network.state_dict()) == keys | {"fc.weight", "fc.bias"}


def test_sizes_are_those_of_the_public_file(network: FIDInception) -> None:
    """torchvision states 27,161,264 parameters: 3,326,696 are the auxiliary classifier's, and here are 8 classes more."""
    assert sum(p.numel() for p in network.parameters()) == 27_161_264 - 3_326_696 + 8 * 2049 == 23_850_960
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert shapes["fc.weight"] == (1008, 2048)
    for key, shape in {
        "Conv2d_4a_3x3": (192, 80, 3, 3),
        "Mixed_5b.branch5x5_2": (64, 48, 5, 5),
        "Mixed_5d.branch_pool": (64, 288, 1, 1),
        "Mixed_6a.branch3x3": (384, 288, 3, 3),
        "Mixed_6b.branch7x7_2": (128, 128, 1, 7),
        "Mixed_6e.branch7x7dbl_4": (192, 192, 7, 1),
        "Mixed_7a.branch7x7x3_4": (192, 192, 3, 3),
        "Mixed_7b.branch3x3_2a": (384, 384, 1, 3),
        "Mixed_7c.branch3x3dbl_3b": (384, 384, 3, 1),
        "Mixed_7c.branch_pool": (192, 2048, 1, 1),
    }.items():
        assert shapes[f"{key}.conv.weight"] == shape, key
    assert {m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    assert not any(m.bias is not None for m in network.modules() if isinstance(m, nn.Conv2d))


def test_taps_and_features_of_any_size(network: FIDInception) -> None:
    with torch.inference_mode():
        for size in ((64, 64), (100, 333)):
            taps = network(torch.rand(1, 3, *size))
            assert [tuple(t.shape[1:]) for t in taps] == [(64, 73, 73), (192, 35, 35), (768, 17, 17), (2048, 8, 8)]
        x = torch.rand(1, 3, 64, 64)
        pooled = network.pooled(x)
        torch.testing.assert_close(pooled, network(x)[-1].mean(dim=(2, 3)))
    assert pooled.shape == (1, 2048)


def test_input_is_enlarged_plainly_and_scaled(network: FIDInception) -> None:
    x = torch.rand(1, 3, 64, 80)
    with torch.inference_mode():
        large = F.interpolate(x, (299, 299), mode="bilinear", align_corners=False)
        torch.testing.assert_close(network(x)[0], network(large)[0])
        wide = torch.rand(1, 3, 320, 640)  # reduced without antialiasing, as pytorch-fid does
        small = F.interpolate(wide, (299, 299), mode="bilinear", align_corners=False, antialias=False)
        torch.testing.assert_close(network(wide)[0], network(small)[0])
        stem = network.Conv2d_1a_3x3
        first = F.relu(stem.bn(F.conv2d(large * 2 - 1, stem.conv.weight, stride=2)))
        seen: list[Tensor] = []
        hook = stem.register_forward_hook(lambda module, given, out: seen.append(out))
        network(x)
        hook.remove()
    torch.testing.assert_close(seen[0], first, rtol=1e-4, atol=1e-5)


def pool_branch(block: Mixed, pooled: Tensor) -> Tensor:
    assert block.branch_pool is not None
    return F.relu(block.branch_pool.bn(F.conv2d(pooled, block.branch_pool.conv.weight)))


@pytest.mark.parametrize("name", [name for name in BLOCKS if "_pool" in BLOCKS[name]])
def test_pools_of_the_blocks(network: FIDInception, name: str) -> None:
    """Means leave the border's zeros out; the last block alone takes the maximum."""
    block = network.get_submodule(name)
    assert isinstance(block, Mixed)
    assert block.branch_pool is not None
    x = torch.rand(1, block.branch_pool.conv.in_channels, 8, 8)
    ones = F.conv2d(torch.ones(1, 1, 8, 8), torch.ones(1, 1, 3, 3), padding=1)  # 4, 6 or 9 neighbours
    sums = F.conv2d(x.transpose(0, 1), torch.ones(1, 1, 3, 3), padding=1).transpose(0, 1)
    pooled = F.max_pool2d(x, 3, 1, 1) if name == "Mixed_7c" else sums / ones
    with torch.inference_mode():
        expected = pool_branch(block, pooled)
        out = block(x)
    torch.testing.assert_close(out[:, -expected.shape[1] :], expected, rtol=1e-4, atol=1e-5)


def test_branches_stand_in_their_order(network: FIDInception) -> None:
    """The first branch, a shrinking block's pool at the end, and a pair side by side, one after the other."""
    x = torch.rand(1, 288, 9, 9)
    with torch.inference_mode():
        shrunk = network.Mixed_6a(x)
        torch.testing.assert_close(shrunk[:, -288:], F.max_pool2d(x, 3, 2))
        torch.testing.assert_close(shrunk[:, :384], network.get_submodule("Mixed_6a.branch3x3")(x))
        x = torch.rand(1, 1280, 8, 8)
        part = {end: network.get_submodule(f"Mixed_7b.branch3x3_{end}") for end in ("1", "2a", "2b")}
        pair = [part[end](part["1"](x)) for end in ("2a", "2b")]
        torch.testing.assert_close(network.Mixed_7b(x)[:, 320 : 320 + 768], torch.cat(pair, 1))


def test_it_stays_in_eval_mode() -> None:
    network = FIDInception()
    assert not any(module.training for module in nn.Sequential(network).train()[0].modules())


def test_files_with_and_without_counters(tmp_path: Path, network: FIDInception) -> None:
    state = dict(network.state_dict())
    save_file(state, tmp_path / "all.safetensors")
    save_file({k: v for k, v in state.items() if "batches" not in k}, tmp_path / "part.safetensors")
    x = torch.rand(1, 3, 64, 64)
    for name in ("all", "part"):
        loaded = FIDInception.from_file(tmp_path / f"{name}.safetensors")
        assert torch.equal(loaded.pooled(x), network.pooled(x))
