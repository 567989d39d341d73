"""Candidates: shapes that must fit, statistics against their definition, joining and picking as inverses."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from preimage.candidates import HALF_CERTAINTY, Candidates
from preimage.errors import InputError


class Shrink:
    """Stands in for a LinearOperator: only its description is needed here."""

    def __init__(self, kernel: str = "bicubic") -> None:
        self.kernel = kernel

    why_inexact = ""

    def spec(self) -> dict[str, object]:
        return {"scale": 4, "kernel": self.kernel}


def make(n: int = 3, *, start: int = 0, **changes) -> Candidates:
    numbers = torch.Generator().manual_seed(start + 1)
    values = {
        "images": torch.randint(0, 256, (n, 3, 8, 12), generator=numbers).float() / 255,
        "seeds": tuple(range(start, start + n)),
        "lr": torch.arange(18).reshape(3, 2, 3).float() / 255,
        "degradation": Shrink(),
        "error": torch.linspace(0, 0.5, n),
        "exact": torch.arange(n) == 0,
        "moved": torch.rand(n, generator=numbers),
        "error_before": torch.rand(n, generator=numbers),
        "steps": torch.full((n,), 100),
        "latents": {"w_plus": torch.randn(n, 4, 5, generator=numbers)},
        "seconds": 6.0,
        "method": "pulse",
        "prior": "toy",
    }
    return Candidates(**(values | changes))


def assert_same(a: Candidates, b: Candidates) -> None:
    assert (a.seeds, a.method, a.prior) == (b.seeds, b.method, b.prior)
    assert a.seconds == pytest.approx(b.seconds)
    for name in ("images", "lr", "error", "exact", "moved", "error_before", "steps"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    assert a.latents.keys() == b.latents.keys()
    assert all(torch.equal(a.latents[name], b.latents[name]) for name in a.latents)


def test_frozen():
    with pytest.raises(FrozenInstanceError):
        make().method = "other"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(3, 1, 8, 8)}, r"images must be \(n, 3, H, W\).*\(3, 1, 8, 8\)"),
        ({"images": torch.zeros(0, 3, 8, 8)}, "n at least 1"),
        ({"images": torch.full((3, 3, 8, 8), 0.001)}, "images must hold k/255"),
        ({"images": torch.full((3, 3, 8, 8), 2.0)}, r"images must hold k/255 in \[0, 1\]"),
        ({"images": torch.full((3, 3, 8, 8), torch.nan)}, "images must hold k/255"),
        ({"images": torch.zeros(3, 3, 8, 8, dtype=torch.float64)}, "images must be float32, not torch.float64"),
        ({"seeds": (0, 1)}, "3 images but 2 seeds"),
        ({"lr": torch.zeros(1, 3, 2, 2)}, "lr must be"),
        ({"lr": torch.full((3, 2, 2), -1.0)}, "lr must hold k/255"),
        ({"error": torch.zeros(2)}, r"error must be \(3,\), not \(2,\)"),
        ({"moved": torch.zeros(3, 1)}, "moved must be"),
        ({"exact": torch.zeros(3)}, "exact must be bool"),
        ({"steps": torch.zeros(3)}, "steps whole numbers"),
        ({"latents": {"z": torch.zeros(2, 5)}}, r"latents\['z'\] must be \(3, ...\)"),
        ({"latents": {"z": torch.tensor(1.0)}}, r"latents\['z'\]"),
    ],
)
def test_validation(changes, message):
    with pytest.raises(InputError, match=message):
        make(**changes)


def test_picking_and_joining_are_inverse():
    whole = make(4)
    assert len(whole) == 4
    assert_same(Candidates.cat(list(whole)), whole)
    assert_same(Candidates.cat([whole[:1], whole[1:]]), whole)
    assert whole[-1].seeds == (3,)
    assert whole[1].seconds == 1.5
    picked = whole.select([2, 0])
    assert picked.seeds == (2, 0)
    assert torch.equal(picked.latents["w_plus"], whole.latents["w_plus"][[2, 0]])
    assert whole.select(whole.exact).seeds == (0,)
    assert whole.select(torch.tensor([3, -4])).seeds == (3, 0)


def test_picking_refuses():
    for bad in (lambda c: c[3], lambda c: c[-4], lambda c: c.select([0, 3]), lambda c: c.provenance(3)):
        with pytest.raises(IndexError):
            bad(make())
    with pytest.raises(IndexError, match="mask for 3"):
        make().select(torch.tensor([True]))
    for nothing in (lambda c: c[3:], lambda c: c.select([]), lambda c: c.select(torch.zeros(3, dtype=torch.bool))):
        with pytest.raises(InputError, match="selected none of 3"):
            nothing(make())


def test_joining_keeps_shared_latents_and_refuses_mixtures():
    other = make(2, start=5)
    joined = Candidates.cat([make(3), replace(other, latents=dict(other.latents) | {"extra": torch.zeros(2)})])
    assert joined.seeds == (0, 1, 2, 5, 6)
    assert joined.seconds == 12
    assert set(joined.latents) == {"w_plus"}
    for changes, message in [
        ({"method": "nam"}, "different method.*'pulse' and 'nam'"),
        ({"prior": None}, "different prior"),
        ({"lr": torch.zeros(3, 2, 3)}, "different inputs or sizes"),
        ({"images": torch.zeros(2, 3, 4, 4)}, "different inputs or sizes"),
        ({"degradation": Shrink("area")}, "different degradations"),
    ]:
        with pytest.raises(InputError, match=message):
            Candidates.cat([make(3), replace(other, **changes)])
    with pytest.raises(InputError, match="no candidates to join"):
        Candidates.cat([])


def test_best_is_lowest_before_projection():
    assert make(4, error_before=torch.tensor([torch.nan, 3.0, 1.0, 1.0])).best() == 2
    assert make(2, error_before=torch.full((2,), torch.nan)).best() == 0


def test_spread_and_certainty_against_their_definition():
    levels = torch.zeros(2, 3, 1, 2)
    levels[1, :, 0, 1] = torch.tensor([16.0, 32.0, 0.0])  # sample deviation of (0, d) is d / sqrt 2
    candidates = make(2, images=levels / 255)
    expected = (16 + 32 + 0) / 3 / 2**0.5
    torch.testing.assert_close(candidates.spread(), torch.tensor([[0.0, expected]]))
    torch.testing.assert_close(candidates.certainty(), torch.tensor([[1.0, 0.5 ** (expected / HALF_CERTAINTY)]]))


def test_certainty_does_not_depend_on_order_and_stays_in_range():
    whole = make(5)
    certainty = whole.certainty()
    assert certainty.shape == (8, 12)
    assert float(certainty.min()) > 0
    assert float(certainty.max()) <= 1
    torch.testing.assert_close(whole.select([4, 2, 0, 1, 3]).certainty(), certainty)


def test_one_candidate_has_no_certainty_but_a_grid():
    with pytest.raises(InputError, match=r"one candidate does not show.*at least 2"):
        make(1).certainty()
    one, two = make(1).grid(), make(2).grid()
    assert one.ndim == two.ndim == 3
    assert two.shape[2] == pytest.approx(one.shape[2] * 2, abs=8)  # candidate and map more


def test_provenance_is_text_a_png_can_hold(tmp_path):
    from preimage.files import read_provenance, save_png

    record = make(3).provenance(1)
    assert all(isinstance(value, str) for value in record.values())
    assert record["seed"] == "1"
    assert record["exact"] == "false"
    assert record["error"] == "0.25"
    assert record["Software"].startswith("preimage ")
    assert json.loads(record["degradation"]) == {"kernel": "bicubic", "scale": 4}
    assert make(1, prior=None).provenance(0)["prior"] == "none"
    save_png(tmp_path / "a.png", make(3).images[1], record)
    assert read_provenance(tmp_path / "a.png") == record
