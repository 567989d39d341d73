"""The contract of a metric, and the figures of papers."""

from __future__ import annotations

import pytest
import torch

from preimage.errors import InputError
from preimage.invert.registry import list_methods
from preimage.measure.metric import Metric
from preimage.measure.published import PUBLISHED, published_for

DARKNESS = Metric("darkness", lambda x: 1 - x.mean((1, 2, 3)), lower_is_better=True, reference=False)
APART = Metric("apart", lambda x, y: (x - y).abs().mean((1, 2, 3)), lower_is_better=True, smallest=8)


def pictures(n: int = 3, side: int = 8) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_one_value_per_picture():
    x = pictures().requires_grad_(True)
    values = DARKNESS(x)
    assert values.shape == (3,)
    assert values.dtype == torch.float64
    assert not values.requires_grad
    assert torch.allclose(values, 1 - x.detach().double().mean((1, 2, 3)), atol=1e-6)
    assert torch.equal(DARKNESS(x, pictures()), values)  # a reference that is not needed changes nothing


def test_one_reference_may_serve_all():
    x = pictures()
    assert torch.equal(APART(x, x[0]), APART(x, x[:1].expand_as(x)))
    assert APART(x, x[0])[0] == 0


@pytest.mark.parametrize(
    ("images", "reference", "message"),
    [
        (pictures(), None, "give the reference"),
        (pictures(), pictures(2), "differ in shape"),
        (pictures(side=6), pictures(side=6), "6x6 are too small; it needs 8"),
        (pictures()[0], pictures(), r"needs pictures \(n, 3, H, W\)"),
        (pictures()[:0], pictures()[:0], "n at least 1"),
        (pictures() * torch.nan, pictures(), "finite float pictures"),
        ((pictures() * 255).byte(), pictures(), "finite float pictures"),
        (pictures(), pictures() * torch.inf, "apart, reference: needs finite"),
    ],
)
def test_what_cannot_be_judged_is_said(images, reference, message):
    with pytest.raises(InputError, match=message):
        APART(images, reference)


def test_published_figures_are_of_methods_that_are_here_and_say_where_they_stand():
    assert {figure.method for figure in PUBLISHED} <= set(list_methods())
    assert all(figure.source and figure.note for figure in PUBLISHED)
    assert [f.value for f in published_for(["pulse"]) if f.metric == "niqe"] == [
        2.47,
        2.53,
    ]  # table 2; table I of its heir
    assert published_for(["nobody"]) == []
