"""DeepSEE's network: published sizes, what a style and a map of regions reach, shapes that cannot be, files."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from preimage.errors import OperatorError, WeightsError
from preimage.nets.deepsee import DeepSEEConfig, DeepSEENetwork
from preimage.weight_files import read_module, save_prior

TINY = DeepSEEConfig(
    lr_size=8,
    resolution=32,
    widths=(8, 8, 6),
    hidden=4,
    style=5,
    encoder=2,
    pooling="region",
    enlarged=True,
    noise=False,
)


def inputs(c: DeepSEEConfig, n: int = 2):
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(0, c.regions, (n, c.resolution // 8, c.resolution // 8), generator=rng)
    mask = F.one_hot(labels.repeat_interleave(8, 1).repeat_interleave(8, 2), c.regions).permute(0, 3, 1, 2).float()
    return torch.rand(n, 3, c.lr_size, c.lr_size, generator=rng), mask


@pytest.fixture
def network() -> DeepSEENetwork:
    torch.manual_seed(0)
    made = DeepSEENetwork(TINY, "tiny")
    with torch.no_grad():
        for key, p in made.named_parameters():
            if p.ndim > 1 and "parametrizations" not in key:
                p.normal_(std=p[0].numel() ** -0.5)
    return made.eval()


def block_size(width: int, regions: int, hidden: int, style: int, kind: str, noise: bool) -> int:
    """Parameters of a published block, by its layers."""
    by_region = (regions * 9 + 1) * hidden + 2 * (hidden * 9 + 1) * width
    by_style = 2 * (style * 9 + 1) * width
    norm = {"regions": by_region, "both": by_region + by_style + 2, "style": by_style}[kind]
    return 2 * (width * 9 + 1) * width + 2 * norm + 3 * width * noise


@pytest.mark.parametrize(("lr_size", "resolution"), [(16, 128), (32, 256), (16, 512)])
def test_published_sizes(lr_size, resolution):
    """512 wide throughout; five doublings end in a block of styles alone; nothing is computed but shapes."""
    doublings = (resolution // lr_size).bit_length() - 1
    c = DeepSEEConfig(lr_size, resolution, (512,) * (doublings + 1), noise=doublings == 3)
    with torch.device("meta"):
        g = DeepSEENetwork(c)
        photo, mask = torch.empty(1, 3, lr_size, lr_size), torch.empty(1, 19, resolution, resolution)
        style = g.encode(photo, mask, False)
        sharp = g.encode(torch.empty(1, 3, resolution, resolution), mask, True)
        made = g(photo, mask, style)
    assert style.shape == sharp.shape == (1, 19, 128)
    assert made.shape == (1, 3, resolution, resolution)
    sizes = [block_size(512, 19, 128, 128, "regions", c.noise)]
    for doubling in range(1, doublings + 1):
        kind = "style" if doubling == 5 else "both"
        sizes += [block_size(512, 19, 128, 128, kind, c.noise)] * (2 if doubling == 1 else 1)
    ends = (3 * 9 + 1) * 512 + (512 * 9 + 1) * 3
    assert sum(p.numel() for p in g.generator.parameters()) == sum(sizes) + ends
    layers = 2 * 9 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 256) + 9 * 256 * 128
    assert sum(p.numel() for p in g.encoder.parameters()) == layers


def test_pictures_are_the_same_alone_and_in_a_batch(network):
    photo, mask = inputs(TINY, 3)
    style = network.encode(photo, mask, False)
    together = network(photo, mask, style)
    for i in range(3):
        alone = network(photo[i : i + 1], mask[i : i + 1], network.encode(photo[i : i + 1], mask[i : i + 1], False))
        assert torch.allclose(together[i], alone[0], atol=1e-5)


def test_an_empty_region_has_no_effect(network):
    photo, mask = inputs(TINY)
    mask[:, 0] += mask[:, 7]
    mask[:, 7] = 0
    style = network.encode(photo, mask, False)
    assert not style[:, 7].any()
    other = style.clone()
    other[:, 7] = 1
    assert torch.equal(network(photo, mask, other), network(photo, mask, style))


def test_a_style_changes_its_region_most(network):
    photo, _ = inputs(TINY)
    labels = torch.zeros(2, 32, 32, dtype=torch.long)
    labels[:, :, 16:] = 3
    mask = F.one_hot(labels, 19).permute(0, 3, 1, 2).float()
    style = network.encode(photo, mask, False)
    other = style.clone()
    other[:, 3] += 0.3
    off = (network(photo, mask, other) - network(photo, mask, style)).abs().mean(1)
    far = labels.clone()
    far[:, :, 6:] = 1
    assert off[labels == 3].mean().item() > 5 * off[far == 0].mean().item()


def test_the_map_of_regions_matters(network):
    photo, mask = inputs(TINY)
    style = network.encode(photo, mask, False)
    assert not torch.allclose(network(photo, mask, style), network(photo, mask.roll(1, 1), style), atol=1e-4)


def test_outcomes_of_both_forms():
    """As published it ends in tanh; ours is a difference and begins near nothing."""
    photo, mask = inputs(TINY)
    plain = DeepSEENetwork(replace(TINY, enlarged=False)).eval()
    made = plain(photo, mask, plain.encode(photo, mask, False))
    assert 0 <= float(made.min()) <= float(made.max()) <= 1
    assert float((made - 0.5).abs().max()) < 0.1
    assert float(DeepSEENetwork(TINY).eval()(photo, mask, torch.zeros(2, 19, 5)).abs().max()) < 0.05


def test_without_styles_or_regions():
    for changes in ({"style": 0}, {"regions": 1}, {"regions": 1, "style": 0}):
        c = replace(TINY, **changes)
        network = DeepSEENetwork(c).eval()
        photo, mask = inputs(c)
        style = network.encode(photo, mask, False)
        assert (style is None) == (c.style == 0)
        assert network(photo, mask, style).shape == (2, 3, 32, 32)


@pytest.mark.parametrize("changes", [{}, {"drawn": 2, "noise": True}, {"style": 0}, {"spectral": False}])
def test_files(changes, tmp_path):
    c = replace(TINY, **changes)
    network = DeepSEENetwork(c, "tiny").eval()
    save_prior(tmp_path / "x.safetensors", network, {}, dtype=torch.float32)
    found = read_module(tmp_path / "x.safetensors")
    assert found.config == c
    photo, mask = inputs(c)
    style = network.encode(photo, mask, False)
    assert torch.equal(found.eval()(photo, mask, style), network(photo, mask, style))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resolution": 48}, "power of two"),
        ({"lr_size": 6}, "times a power of two"),
        ({"widths": (8, 8)}, "one for 8 px and one for each of the 2 doublings"),
        ({"widths": (8, 8, 0)}, r"widths\[2\]"),
        ({"regions": 0}, "regions"),
        ({"style": -1}, "style"),
        ({"drawn": 9}, "drawn"),
        ({"pooling": "all"}, "image or region"),
        ({"noise": 1}, "true or false"),
        ({"legacy_512": True}, r"legacy_512 needs style \(5\) equal to hidden \(4\)"),
        ({"hidden": 2.0}, "hidden"),
    ],
)
def test_shapes_that_cannot_be(changes, words):
    with pytest.raises(WeightsError, match=words):
        replace(TINY, **changes)


def test_inputs_that_do_not_fit(network):
    photo, mask = inputs(TINY)
    with pytest.raises(OperatorError, match="takes photos of 8 px"):
        network(photo[:, :, :4, :4], mask)
    with pytest.raises(OperatorError, match="takes styles"):
        network(photo, mask)
