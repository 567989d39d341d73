"""DeepLab V3+ on a dilated network: shapes, published size, files."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from preimage.errors import InputError, WeightsError
from preimage.nets.segmenter import LEVELS, DilatedBlock, Pyramid, Segmenter, SegmenterConfig, brought_to
from preimage.weight_files import read_declaration, read_metadata, save_prior
from preimage.weights import load_network

TINY = SegmenterConfig(
    32, stem=(4, 4, 6), widths=(6, 6, 8, 8), blocks=(1, 1, 1, 1), pyramid=6, rates=(1, 2, 3), low=4, decoder=6
)
DEEPSEE = SegmenterConfig(
    512, kernel=7, stem=(16, 16, 32), widths=(64, 128, 256, 512), blocks=(3, 4, 6, 3), expansion=4, smooth=(512, 512), pyramid=256,
    rates=(12, 24, 36), low_level=1, low=48, decoder=256,
)  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        replace(TINY, low_level=1),
        replace(TINY, expansion=4),
        replace(TINY, smooth=(5, 7)),
        replace(TINY, kernel=7),
    ],
)
def test_photos_of_any_size(config):
    network = Segmenter(config).eval()
    for side in (4, 16, 32, 50):
        scores = network(torch.rand(2, 3, side, side))
        assert scores.shape == (2, 19, 32, 32)
        assert scores.dtype == torch.float32


def test_each_photo_is_answered_alone():
    network, photos = Segmenter(TINY).eval(), torch.rand(3, 3, 8, 8)
    assert torch.allclose(network(photos)[1:2], network(photos[1:2]), atol=1e-5)


def test_what_is_no_photo():
    for wrong in (torch.rand(3, 8, 8), torch.rand(1, 1, 8, 8), torch.rand(1, 3, 8, 9)):
        with pytest.raises(InputError, match="takes square pictures"):
            Segmenter(TINY)(wrong)


def test_a_photo_is_enlarged_by_bicubic():
    photo = torch.rand(1, 3, 8, 8)
    assert torch.equal(brought_to(photo, 8), photo)
    assert torch.allclose(brought_to(photo, 24), F.interpolate(photo, (24, 24), mode="bicubic"))
    assert torch.allclose(brought_to(torch.full((1, 3, 32, 32), 0.3), 8), torch.full((1, 3, 8, 8), 0.3))


def test_a_block_sees_as_far_as_its_dilation():
    """Two 3x3 convolutions of dilation d see 2d pixels in each direction, and no pixel between."""
    block = DilatedBlock(1, 1, 1, 3, 1).eval()
    for p in block.parameters():
        nn.init.constant_(p, 0.1)
    x = torch.ones(1, 1, 21, 21, requires_grad=True)
    block(x)[0, 0, 10, 10].backward()
    seen = (x.grad[0, 0] != 0).nonzero() - 10
    assert seen.abs().max() == 6
    assert bool((seen % 3 == 0).all())


def test_the_pyramid_sees_the_whole_picture():
    pyramid = Pyramid(2, 3, (1, 2, 3)).eval()
    for p in pyramid.parameters():
        nn.init.constant_(p, 0.1)
    x = torch.ones(1, 2, 33, 33, requires_grad=True)
    pyramid(x)[0, 0, 16, 16].backward()
    assert bool((x.grad != 0).all())


def test_the_published_size():
    """DRN-D-54 has 35.8 M parameters with its classifier of 1000 (Yu et al., 2017, table 1: 35.8), and stands at an eighth of the side."""
    with torch.device("meta"):
        network = Segmenter(DEEPSEE)
        trunk = [network.stem, network.levels, network.smooth]
        count = sum(p.numel() for part in trunk for p in part.parameters()) + 512 * 1000 + 1000
    assert count == pytest.approx(35.8e6, rel=0.01)
    assert 2 * prod(stride for stride, _ in LEVELS) == 8


def test_a_file_of_it(tmp_path):
    torch.manual_seed(0)
    network = Segmenter(TINY, "tiny").eval()
    save_prior(tmp_path / "s.safetensors", network, {"images_seen": 3}, degradations=["bicubic"], looked_through=())
    loaded = load_network(tmp_path / "s.safetensors", "segmenter")
    assert loaded.config == TINY
    photos = torch.rand(2, 3, 16, 16)
    assert torch.allclose(loaded(photos), network(photos), atol=0.05)
    declares = read_declaration(tmp_path / "s.safetensors")
    assert (declares.kind, declares.hr_size, declares.degradations) == ("segmenter", 32, ("bicubic",))
    assert read_metadata(tmp_path / "s.safetensors")["architecture"] == "segmenter"
    with pytest.raises(WeightsError, match="holds a Segmenter, which is not an upsampler"):
        load_network(tmp_path / "s.safetensors", "upsampler")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hr_size": 36}, r"hr_size \(36\) must be a multiple of 8"),
        ({"kernel": 4}, r"kernel \(4\) odd"),
        ({"expansion": 2}, r"expansion \(2\) 1 or 4"),
        ({"widths": (4, 4)}, r"widths \(\(4, 4\)\) must list 4 numbers"),
        ({"smooth": (4,)}, r"smooth \(\(4,\)\) must list 0 or 2 numbers"),
        ({"stem": (4, 0, 4)}, r"stem\[1\] \(0\) must be a whole number from 1"),
        ({"rates": "abc"}, r"rates \('abc'\) must list 3"),
        ({"low_level": 2}, r"low_level \(2\) must be a whole number from 0 to 1"),
        ({"labels": 2.0}, r"labels \(2\.0\)"),
    ],
)
def test_shapes_that_are_none(change, message):
    with pytest.raises(WeightsError, match=message):
        replace(TINY, **change)
