"""Pro-PULSE's encoders: shapes at every size of photo, the published figures, the start at the mean, stages."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from preimage.errors import OperatorError, WeightsError
from preimage.nets.pro_pulse import Head, ProPulseConfig, ProPulseEncoder, ResidualChannelAttention

TINY = {
    "lr_size": 4, "hr_size": 16, "rows": (4, 6), "w_dim": 6, "width": 4, "head_width": 5, "groups": 1, "blocks": 1, "reduction": 4,
}  # fmt: skip


def stirred(config: ProPulseConfig) -> ProPulseEncoder:
    """An encoder whose heads write something."""
    torch.manual_seed(0)
    made = ProPulseEncoder(config).requires_grad_(False)
    for module in made.modules():
        if isinstance(module, Head):
            module.out.weight.normal_()
    return made


def kernels(head: Head) -> list[tuple[int, int]]:
    return [(m.kernel_size[0], m.stride[0]) for m in head.modules() if isinstance(m, nn.Conv2d)]


def test_the_published_size():
    """Figures 3 and 4: 16 px -> 32 -> 8 -> 2 -> 1, 512 channels, 4 groups of two RCABs; 9 heads of two codes, 18 in all."""
    config = ProPulseConfig()
    assert config.codes == ((2, 2, 2, 2), (2,), (2,), (2,), (2,), (2,))
    with torch.device("meta"):
        encoder = ProPulseEncoder(config)
    assert encoder.base is not None
    assert encoder.scales is not None
    assert kernels(encoder.base.head) == [(4, 4), (4, 4), (2, 1)]
    counts = [sum(p.numel() for p in part.parameters()) for part in (encoder.base, encoder.scales)]
    rcab = 2 * (64 * 64 * 9 + 64) + (64 * 4 + 4) + (4 * 64 + 64)
    stem = (3 * 64 * 9 + 64) + (64 * 64 * 16 + 64)
    body = (64 * 512 * 16 + 512) + (512 * 512 * 16 + 512)

    def last(codes: int) -> int:
        return 512 * codes * 512 * 4 + codes * 512

    assert counts[0] == stem + 4 * (2 * rcab + 64 * 64 * 9 + 64) + body + last(1)
    assert counts[1] == stem + 9 * (2 * rcab + body + last(2))


@pytest.mark.parametrize("side", [1, 2, 4, 7, 8, 10, 12, 16, 18, 20, 31, 32, 64, 128])
def test_photos_of_any_size_arrive_at_one_place(side):
    config = ProPulseConfig(**TINY | {"lr_size": side, "hr_size": 512})
    torch.manual_seed(0)
    head = Head(config, 3)
    nn.init.normal_(head.out.weight)
    x = torch.rand(2, config.width, 2 * side, 2 * side, requires_grad=True)
    codes = head(x)
    assert codes.shape == (2, 3, config.w_dim)
    codes.square().sum().backward()
    assert bool((x.grad.abs().sum((0, 1)) > 0).all())  # every place of the map counts


def test_untrained_it_answers_the_mean_face():
    for space, offset in (("w", "base"), ("u", "mean")):
        encoder = ProPulseEncoder(ProPulseConfig(**TINY, space=space, offset=offset))
        encoder.centre.copy_(torch.linspace(-1, 1, 6))
        encoder.spread.fill_(3.0)
        mean = encoder.centre if space == "w" else torch.where(encoder.centre < 0, 0.2, 1.0) * encoder.centre
        for stage in (0, 1, 2):
            encoder.stage.fill_(stage)
            torch.testing.assert_close(encoder(torch.rand(2, 3, 4, 4)), mean.expand(2, 6, 6))


def test_stages_replace_the_base_codes_from_coarse_to_fine():
    for offset in ("base", "mean"):
        encoder = stirred(ProPulseConfig(**TINY, offset=offset))
        lr, found = torch.rand(2, 3, 4, 4), []
        for stage in (0, 1, 2):
            encoder.stage.fill_(stage)
            found.append(encoder(lr))
        assert torch.equal(found[0], found[0][:, :1].expand(-1, 6, -1))
        for stage, rows in ((1, 4), (2, 6)):
            assert torch.equal(found[stage][:, rows:], found[0][:, rows:])
            assert bool((found[stage][:, :rows] - found[0][:, :rows]).abs().amax(2).min() > 1e-3)
            assert torch.equal(found[2][:, : min(rows, 4)], found[1][:, : min(rows, 4)])


def test_a_stage_that_opens_begins_where_the_one_before_ended():
    encoder = stirred(ProPulseConfig(**TINY))
    for parts in list(encoder.scales.stages):
        for part in parts:
            part.head.out.weight.zero_()
    lr = torch.rand(2, 3, 4, 4)
    found = []
    for stage in (0, 1, 2):
        encoder.stage.fill_(stage)
        found.append(encoder(lr))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_either_encoder_alone():
    lr = torch.rand(2, 3, 4, 4)
    base = stirred(ProPulseConfig(**TINY, scales=False))
    assert base.scales is None
    assert torch.equal(base(lr), base(lr)[:, :1].expand(-1, 6, -1))
    scales = stirred(ProPulseConfig(**TINY, base=False))
    scales.stage.fill_(1)
    assert scales.base is None
    assert torch.equal(scales(lr)[:, 4:], scales.centre.expand(2, 2, -1))


def test_channel_attention_by_hand():
    torch.manual_seed(0)
    block = ResidualChannelAttention(4, 2)
    x = torch.rand(1, 4, 5, 5)
    y = block.conv1(block.conv0(x).relu())
    mean = y.mean((2, 3))
    inner = (mean @ block.down.weight[:, :, 0, 0].t() + block.down.bias).relu()
    weights = (inner @ block.up.weight[:, :, 0, 0].t() + block.up.bias).sigmoid()
    torch.testing.assert_close(block(x), x + y * weights[:, :, None, None])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr_size": 0}, r"lr_size \(0\)"),
        ({"hr_size": 24}, "resolution 24"),
        ({"rows": (6, 4)}, r"rows \(\[6, 4\]\) must rise"),
        ({"rows": ()}, "rows"),
        ({"rows": (2.0, 4)}, r"rows\[0\]"),
        ({"base": False, "scales": False}, "both false"),
        ({"base": 1}, "base"),
        ({"offset": "w"}, "offset 'w'"),
        ({"space": "z"}, "space 'z'"),
        ({"width": 0}, "width"),
        ({"silent": -1}, "silent"),
    ],
)
def test_shapes_that_cannot_be(change, message):
    with pytest.raises(WeightsError, match=message):
        ProPulseConfig(**TINY | change)


def test_other_photos_are_refused():
    with pytest.raises(OperatorError, match=r"takes photos \(n, 3, 4, 4\), not \(1, 3, 5, 5\)"):
        ProPulseEncoder(ProPulseConfig(**TINY))(torch.rand(1, 3, 5, 5))
