"""Saved pictures shrink to the input byte for byte, stay near the candidate, and say so honestly when they cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from preimage.degrade import LinearOperator, bicubic, gaussian, make_operator
from preimage.degrade.consistency import downscale_saved, lr_error, make_exact
from preimage.degrade.proof import verify
from preimage.errors import InputError, OperatorError

CASES = [
    ((64, 64), 2.0),
    ((64, 64), 4.0),
    ((128, 128), 8.0),
    ((128, 96), 16.0),
    ((256, 256), 32.0),
    ((256, 256), 64.0),
    ((61, 83), 3.3),
    ((97, 63), 1.7),
]


def smooth(noise: Tensor, reach: int) -> Tensor:
    blurred = gaussian(tuple(noise.shape[-2:]), 1, sigma=reach)(noise)
    return blurred / blurred.std()


def textured(seed: int, size: tuple[int, int], saturated: bool = True) -> Tensor:
    """A picture (3, H, W) uint8 with slow and fast detail and, if wanted, areas of pure black and white."""
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(2, 3, *size, generator=rng, dtype=torch.float64)
    x = 0.5 + 0.2 * smooth(noise[0], max(size) // 8) + 0.1 * smooth(noise[1], 1)
    if saturated:
        h, w = size
        x[:, h // 5 : h // 2, w // 4 : w // 2] = 1
        x[:, h // 2 : h * 4 // 5, w // 3 : w * 2 // 3] = 0
    return (x * 255).round().clamp(0, 255).to(torch.uint8)


def pillow(x: Tensor, size: tuple[int, int], how: Image.Resampling = Image.Resampling.BICUBIC) -> Tensor:
    image = Image.fromarray(x.permute(1, 2, 0).contiguous().numpy())
    return torch.from_numpy(np.array(image.resize((size[1], size[0]), how))).permute(2, 0, 1)


def near(truth: Tensor, seed: int, op: LinearOperator) -> Tensor:
    """A candidate as a search leaves it: other detail, an LR error of some grey levels."""
    other = textured(seed, op.hr_size).double() / 255
    return (op.project(other * 0.5 + 0.25, op(truth.double() / 255)) + 0.02 * torch.sin(6 * other)).float()


@pytest.mark.parametrize(("size", "scale"), CASES)
def test_exact_at_every_scale(size: tuple[int, int], scale: float) -> None:
    op = bicubic(size, scale)
    truth = textured(1, size)
    lr = pillow(truth, op.lr_size)
    noise = torch.rand(3, *size, generator=torch.Generator().manual_seed(3))
    candidates = torch.stack([near(truth, 2, op), near(truth, 4, op) + 0.3, noise])
    found = make_exact(candidates, lr.float() / 255, op)
    assert found.exact.all()
    assert not found.error.any()
    assert not found.worst.any()
    assert found.images.dtype == torch.uint8
    assert (found.rounds > 0).all()
    for image in found.images:
        assert torch.equal(pillow(image, op.lr_size), lr)
    distance = (found.images.double() - candidates.clamp(0, 1) * 255).square().flatten(1).mean(1).sqrt()
    torch.testing.assert_close(found.moved.double(), distance, rtol=1e-3, atol=1e-3)


def test_ordinary_candidates_take_few_rounds() -> None:
    op = bicubic(64, 4)
    for seed in range(6):
        truth = textured(seed, (64, 64), saturated=False)
        other = textured(50 + seed, (64, 64), saturated=False).double() / 255
        candidate = op.project(other * 0.5 + 0.25, op(truth.double() / 255)) + 0.01
        found = make_exact(candidate[None], pillow(truth, op.lr_size), op)
        assert found.exact.all()
        assert found.rounds.max() <= 40


def test_the_saved_file_is_what_counts(tmp_path: Path) -> None:
    op = bicubic((120, 88), (8, 8))
    truth = textured(5, op.hr_size)
    lr = pillow(truth, op.lr_size)
    found = make_exact(near(truth, 6, op)[None], lr, op)
    path, lr_path = tmp_path / "seed0000.png", tmp_path / "input.png"
    Image.fromarray(found.images[0].permute(1, 2, 0).contiguous().numpy()).save(path)
    Image.fromarray(lr.permute(1, 2, 0).contiguous().numpy()).save(lr_path)
    with Image.open(path) as big, Image.open(lr_path) as small:
        assert big.resize(small.size, Image.Resampling.BICUBIC).tobytes() == small.tobytes()
    assert verify(path, lr_path) == (True, 0.0)
    assert verify(path, lr_path, op) == (True, 0.0)
    exact, error = verify(path, lr_path, make_operator("area", hr_size=op.hr_size, scale=8))
    assert not exact
    assert error > 0.1
    with pytest.raises(OperatorError, match="cannot shrink"):
        verify(lr_path, path)
    with pytest.raises(InputError, match=r"absent\.png: no such file"):
        verify(tmp_path / "absent.png", lr_path)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match=r"text\.png: is text, not a picture"):
        verify(path, tmp_path / "text.png")


@pytest.mark.parametrize(
    ("name", "border"),
    [
        ("bilinear", "renormalise"),
        ("lanczos", "renormalise"),
        ("area", "renormalise"),
        ("gaussian", "symmetric"),
        ("bicubic", "reflect"),
    ],
)
def test_other_operators(name: str, border: str) -> None:
    op = make_operator(name, hr_size=(48, 56), scale=8, border=border)
    truth = textured(7, op.hr_size)
    if op.pillow_filter is None:
        lr = (op(truth.double()) + 0.5).floor().clamp(0, 255).to(torch.uint8)
    else:
        lr = pillow(truth, op.lr_size, op.pillow_filter)
    assert torch.equal(downscale_saved(truth[None], op)[0], lr)
    assert make_exact(near(truth, 8, op)[None], lr, op).exact.all()


def test_exact_pictures_stay_untouched() -> None:
    op = bicubic(64, 8)
    truth = textured(9, (64, 64))
    for same in (truth, truth.float() / 255):
        found = make_exact(same[None], pillow(truth, op.lr_size), op)
        assert torch.equal(found.images[0], truth)
        assert found.exact.all()
        assert float(found.moved) == pytest.approx(0, abs=1e-4)
        assert int(found.rounds) == 0


@pytest.mark.parametrize(("size", "scale"), [((64, 64), 4.0), ((128, 128), 16.0)])
def test_not_farther_than_alternating_projections(size: tuple[int, int], scale: float) -> None:
    op = bicubic(size, scale)
    truth = textured(10, size)
    lr = pillow(truth, op.lr_size)
    candidate = near(truth, 11, op)
    start = candidate.double().clamp(0, 1) * 255
    x = start
    for _ in range(1000):  # the same model of what Pillow does: clipping between the passes
        x = (x + op.pinv(lr - op.rows @ (x @ op.cols.mT).clamp(0, 255))).clamp(0, 255)
    plain = float((x - start).square().mean().sqrt())
    found = make_exact(candidate[None], lr, op)
    assert found.exact.all()
    assert float(found.moved) <= np.hypot(plain, 12**-0.5), "but for the rounding to bytes"


def test_batches_do_not_matter() -> None:
    op = bicubic((50, 70), 5)
    truth = textured(12, op.hr_size)
    lr = pillow(truth, op.lr_size)
    candidates = torch.stack([near(truth, seed, op) for seed in range(20, 25)])
    together = make_exact(candidates, lr, op)
    again = make_exact(candidates.flip(0), lr, op)
    for i in range(5):
        alone = make_exact(candidates[i : i + 1], lr, op)
        for field in ("images", "exact", "error", "worst", "moved", "rounds"):
            assert torch.equal(getattr(alone, field)[0], getattr(together, field)[i])
            assert torch.equal(getattr(alone, field)[0], getattr(again, field)[4 - i])


@pytest.mark.parametrize("every", [1, 4])
def test_impossible_inputs_are_answered_honestly(every: int) -> None:
    op = gaussian(32, 2, sigma=3.0)  # too soft for single black and white pixels
    apart = torch.arange(16)
    white = (apart[:, None] + apart) % 2 == 0 if every == 1 else (apart[:, None] % every + apart % every) == 0
    lr = (white * 255).to(torch.uint8).expand(3, -1, -1)
    found = make_exact(torch.full((1, 3, 32, 32), 0.4), lr, op)
    miss = downscale_saved(found.images, op).double() - lr
    assert not found.exact
    assert float(found.error) > 1
    assert float(found.error) == pytest.approx(float(miss.square().mean().sqrt()), rel=1e-5)
    assert int(found.worst) == int(miss.abs().max())


def test_the_closest_is_better_than_the_candidate() -> None:
    operator = gaussian(32, 2, sigma=3.0)
    target = torch.zeros(3, 16, 16, dtype=torch.uint8)
    target[:, 4:12, 4:12] = 255
    candidate = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = make_exact(candidate, target, operator)
    assert not found.exact
    before = downscale_saved((candidate * 255).round().to(torch.uint8), operator).double() - target
    assert float(found.error) < 0.5 * float(before.square().mean().sqrt())


def test_grey_stays_grey() -> None:
    op = bicubic(64, 8)
    truth = textured(13, (64, 64))[:1].expand(3, -1, -1)
    candidate = textured(14, (64, 64))[:1].expand(3, -1, -1).float() / 255
    found = make_exact(candidate[None], pillow(truth, op.lr_size), op)
    assert found.exact.all()
    assert torch.equal(found.images[0, 0], found.images[0, 1])
    assert torch.equal(found.images[0, 0], found.images[0, 2])


@pytest.mark.parametrize("level", [0, 1, 100, 254, 255])
def test_flat_inputs(level: int) -> None:
    op = bicubic(128, 32)
    lr = torch.full((3, 4, 4), level, dtype=torch.uint8)
    assert make_exact(torch.full((1, 3, 128, 128), 0.5), lr, op).exact.all()
    ramp = torch.linspace(0, 1, 128).expand(1, 3, 128, 128)
    assert make_exact(ramp, lr, op).exact.all()


def test_lr_error_is_in_grey_levels() -> None:
    op = bicubic(32, 4)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(lr_error(x, op(x[0]).clamp(0, 1), op)[0], torch.tensor(0.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(lr_error(x + 1 / 255, op(x[0]), op)[0], torch.tensor(1.0), atol=1e-3, rtol=0)
    assert lr_error(x[:0], torch.zeros(3, 8, 8), op).shape == (0,)


def test_empty_batch_and_no_rounds() -> None:
    op = bicubic(16, 4)
    lr = torch.full((3, 4, 4), 51, dtype=torch.uint8)
    assert make_exact(torch.zeros(0, 3, 16, 16), lr, op).images.shape == (0, 3, 16, 16)
    found = make_exact(torch.zeros(1, 3, 16, 16), lr, op, max_rounds=0, repairs=0)
    assert float(found.error) == 51
    assert int(found.rounds) == 0


def test_it_ends_when_the_repairs_are_used_up() -> None:
    """The projection has converged, no rounding of it is exact, and no repair is left: once a loop without end."""
    operator = make_operator("area", hr_size=64, lr_size=16)
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 64, 64, generator=rng)
    lr = torch.round(operator(images[:1]).clamp(0, 1)[0] * 255) / 255
    found = make_exact(images, lr, operator, repairs=0)
    assert not bool(found.exact.all())
    assert bool((found.error[~found.exact] < 1).all())  # grey levels


def test_refusals() -> None:
    op = bicubic(16, 4)
    x, lr = torch.zeros(1, 3, 16, 16), torch.zeros(3, 4, 4)
    with pytest.raises(InputError, match="NaN"):
        make_exact(x * torch.nan, lr, op)
    with pytest.raises(InputError, match="NaN"):
        make_exact(x, lr * torch.nan, op)
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        make_exact(x, lr + 2, op)
    with pytest.raises(InputError, match="8-bit"):
        make_exact(x, lr + 0.5 / 255, op)
    with pytest.raises(InputError, match="one picture"):
        make_exact(x, lr[None], op)
    with pytest.raises(InputError, match="n, 3, H, W"):
        make_exact(x[0], lr, op)
    with pytest.raises(InputError, match="uint8"):
        make_exact(x.long(), lr, op)
    with pytest.raises(InputError, match="uint8"):
        downscale_saved(x, op)
    with pytest.raises(OperatorError):
        make_exact(x, torch.zeros(3, 5, 4), op)
    with pytest.raises(OperatorError):
        make_exact(torch.zeros(1, 3, 17, 16), lr, op)
