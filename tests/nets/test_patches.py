"""The two-scale patch discriminator: shapes, what each layer is, what it sees."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from preimage.nets.patches import PatchDiscriminator, TwoScaleDiscriminator


def test_features_of_each_scale():
    torch.manual_seed(0)
    d = TwoScaleDiscriminator(19, 4)
    found = d(torch.rand(2, 3, 64, 64), torch.rand(2, 19, 64, 64))
    assert [[tuple(x.shape[1:]) for x in scale] for scale in found] == [
        [(4, 33, 33), (8, 17, 17), (16, 9, 9), (32, 10, 10), (1, 11, 11)],
        [(4, 17, 17), (8, 9, 9), (16, 5, 5), (32, 6, 6), (1, 7, 7)],
    ]


def test_the_second_scale_sees_half_of_it():
    torch.manual_seed(0)
    d = TwoScaleDiscriminator(2, 3).eval()
    x, mask = torch.rand(1, 3, 32, 32), torch.rand(1, 2, 32, 32)
    both = torch.cat([mask, x * 2 - 1], 1)
    small = F.avg_pool2d(both, 3, 2, 1, count_include_pad=False)
    assert torch.allclose(d(x, mask)[1][-1], d.scales[1](small)[-1], atol=1e-5)


def test_published_widths():
    with torch.device("meta"):
        d = PatchDiscriminator(22)
    convs = [m for m in d.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.stride[0]) for c in convs] == [
        (22, 32, 2), (32, 64, 2), (64, 128, 2), (128, 256, 1), (256, 1, 1),
    ]  # fmt: skip
    assert [c.bias is None for c in convs] == [False, True, True, True, False]
    assert sum(isinstance(m, nn.InstanceNorm2d) for m in d.modules()) == 3


def test_regions_matter():
    torch.manual_seed(0)
    d, x = TwoScaleDiscriminator(2, 3).eval(), torch.rand(1, 3, 32, 32)
    a, b = (d(x, torch.full((1, 2, 32, 32), v).tril())[0][-1] for v in (0.0, 1.0))
    assert not torch.allclose(a, b)
