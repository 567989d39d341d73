"""posterior: consistent by construction, exact as saved, one address per seed, levels of random numbers, any size and kernel."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import preimage
from preimage.candidates import Candidates
from preimage.cli import main
from preimage.degrade.consistency import downscale_saved
from preimage.degrade.linear import make_operator
from preimage.errors import InputError, MethodError, OperatorError, WeightsError
from preimage.files import read_provenance, save_png
from preimage.image import read_image, to_uint8
from preimage.invert.posterior import Posterior
from preimage.invert.sampler import answer, blend, draw, encode, load_sampler, stages
from preimage.measure.evaluate import evaluate
from preimage.nets.conditional import LEVELS as STAGE
from preimage.nets.conditional import ConditionalConfig, ConditionalGenerator
from preimage.nets.local import Chain, LocalConfig, LocalGenerator
from preimage.weight_files import save_prior
from preimage.weights import load_prior

CONFIG = ConditionalConfig(64, width=16, channels=(8, 8), w_dim=12, z_outline=3, z_detail=2)


@pytest.fixture(scope="module")
def network() -> ConditionalGenerator:
    torch.manual_seed(0)
    made = ConditionalGenerator(CONFIG, "tiny-posterior").eval().requires_grad_(False)
    made.rgb.weight.mul_(0.3)  # answers of an untrained network leave [0, 1] by far
    for level in range(2):
        made.get_parameter(f"levels.{level}.rgb.weight").mul_(0.3)
    return made


@pytest.fixture(scope="module")
def method(network) -> Posterior:
    return Posterior(weights=network, device="cpu")


def photo(size: int, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 3, 3, generator=rng) * 0.4 + 0.3
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic", align_corners=True)[0]
    return (smooth.clamp(0, 1) * 255).round() / 255


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear", "lanczos", "area", "gaussian"])
@pytest.mark.parametrize("size", [3, 8, 11, 16, 23, 32])
def test_answers_shrink_to_the_photo_before_and_after_rounding(method, kernel, size):
    lr = photo(size)
    operator = make_operator(kernel, hr_size=64, lr_size=size)
    z = draw(CONFIG, range(2))
    pictures = answer(method.network, operator, lr.expand(2, -1, -1, -1), z)
    torch.testing.assert_close(operator(pictures), lr.expand(2, -1, -1, -1), atol=2e-4, rtol=0)
    (found,) = method.upsample(lr, range(2), operator)
    assert float(found.error.max()) < 0.25
    if (kernel, size) not in (
        ("area", 23),
        ("lanczos", 32),
    ):  # two or three pixels behind each: rounding has no room left
        assert bool(found.exact.all())
    assert float(found.error_before.max()) < 0.05
    assert found.images.shape == (2, 3, 64, 64)
    if size <= 16:  # above, so little is left open that an untrained network hardly varies it
        assert float((found.images[0] - found.images[1]).abs().mean()) > 1e-3


def test_gradients_reach_photo_and_random_numbers(network):
    operator = make_operator("bicubic", hr_size=64, lr_size=8)
    z = {level: value.requires_grad_() for level, value in draw(CONFIG, [0]).items()}
    lr = photo(8)[None].requires_grad_()
    answer(network, operator, lr, z).square().sum().backward()
    assert all(float(x.grad.abs().sum()) > 0 for x in (lr, *z.values()))


def test_a_seed_is_an_address(network):
    lr = photo(8)
    whole = preimage.upsample(lr, range(5), method=Posterior(weights=network, device="cpu"))
    for batch in (1, 2):
        again = preimage.upsample(lr, [3, 1], method=Posterior(weights=network, device="cpu", batch=batch))
        assert float((again.images - whole.images[[3, 1]]).abs().max()) <= 1.01 / 255
    assert set(whole.latents) == {f"z-{level}" for level in STAGE}


def test_temperature_draws_answers_together(method):
    lr, spreads = photo(8), []
    for temperature in (0.0, 0.5, 1.0):
        found = preimage.upsample(lr, range(4), method=method, temperature=temperature)
        spreads.append(float(found.spread().mean()))
    assert spreads[0] < 0.01
    assert spreads[0] < spreads[1] < spreads[2]


@pytest.fixture(scope="module")
def told(network) -> Posterior:
    """An untrained network that is told the sharpness."""
    torch.manual_seed(0)
    made = ConditionalGenerator(replace(CONFIG, sharpness=(-0.5, 0.15)), "told").eval().requires_grad_(False)
    for part in ("rgb", "levels.0.rgb", "levels.1.rgb"):
        made.get_parameter(f"{part}.weight").mul_(0.3)
    return Posterior(weights=made, device="cpu")


def test_sharpness_is_asked_for_and_kept_with_the_numbers(told, method):
    lr = photo(8)
    by_default = preimage.upsample(lr, range(2), method=told)
    assert by_default.latents["z-sharpness"].tolist() == [[told.settings.sharpness]] * 2
    soft = preimage.upsample(lr, range(2), method=told, sharpness=-2, temperature=0.5)
    assert soft.latents["z-sharpness"].tolist() == [[-2.0]] * 2  # whatever the temperature
    assert float((soft.images - by_default.images).abs().max()) > 2 / 255
    assert bool(soft.exact.all())
    with pytest.raises(MethodError, match=r"sharpness \(9\)"):
        preimage.upsample(lr, 0, method=told, sharpness=9)
    free = (preimage.upsample(lr, 0, method=method, sharpness=s).images for s in (0, 2))
    assert torch.equal(*free)  # a network that was not told


def test_a_reference_brings_its_sharpness(told, tmp_path):
    torch.manual_seed(0)
    crisp = (0.5 + 0.1 * torch.randn(3, 64, 64)).clamp(0, 1)
    save_png(tmp_path / "crisp.png", crisp)
    operator = make_operator("bicubic", hr_size=64, lr_size=8)
    found = encode(told.network, operator, crisp, steps=2)
    assert found["sharpness"].tolist() == [[3.0]]  # as far as networks have seen
    settings = told.settings.with_({"blend": 0.5, "sharpness": 1.0})
    posed = told.pose(photo(8), operator, reference=crisp)
    assert told.random([0, 1], settings, posed)["sharpness"].tolist() == [[2.0]] * 2


def test_fresh_levels(method):
    settings = method.settings.with_({"fresh": ["detail"], "base": 7})
    z, base = method.random([1, 2], settings), method.random([7], method.settings)
    assert torch.equal(z["outline"], base["outline"].expand_as(z["outline"]))
    assert torch.equal(z["detail"], method.random([1, 2], method.settings)["detail"])
    lr = photo(8)
    narrow = preimage.upsample(lr, range(4), method=method, fresh=("detail",))
    wide = preimage.upsample(lr, range(4), method=method)
    assert 0 < float(narrow.spread().mean()) < float(wide.spread().mean())


def test_a_reference_is_answered_by_itself(network, method, tmp_path):
    torch.manual_seed(1)
    operator = make_operator("bicubic", hr_size=64, lr_size=8)
    hidden = {level: torch.randn(1, *shape) for level, shape in CONFIG.z_shapes.items()}
    lr = photo(8)
    truth = answer(network, operator, lr[None], hidden)[0].clamp(0, 1)
    found = encode(network, operator, truth, steps=60)
    assert all(0 < float(x.square().mean().sqrt()) < 1.001 for x in found.values())
    misses = {}
    for name, z in (("found", found), ("another", draw(CONFIG, [3]))):
        misses[name] = float((answer(network, operator, operator(truth[None]), z) - truth).abs().mean())
    assert misses["found"] < 0.6 * misses["another"]
    save_png(tmp_path / "reference.png", truth)
    like = preimage.upsample(
        lr, range(3), method=method, reference=str(tmp_path / "reference.png"), blend=1.0, temperature=1
    )
    free = preimage.upsample(lr, range(3), method=method)
    assert bool(like.exact.all())
    assert float((like.images - truth).abs().mean()) < float((free.images - truth).abs().mean())


@pytest.fixture(scope="module")
def chained(tolerant) -> Posterior:
    torch.manual_seed(0)
    second = LocalGenerator(LocalConfig(256, width=8, channels=(6, 4), blocks=1, z_texture=2))
    return Posterior(weights=Chain(tolerant.network, second).eval().requires_grad_(False), device="cpu")


def test_two_stages_are_one_of_another_downscaling():
    for kernel in ("bicubic", "area", "lanczos", "gaussian"):
        whole = make_operator(kernel, hr_size=256, lr_size=16)
        first, between = stages(whole, 64)
        picture = torch.rand(1, 3, 64, 64, dtype=torch.float64)
        torch.testing.assert_close(whole(between.pinv(picture)), first(picture))  # by its definition
        near = make_operator(kernel, hr_size=64, lr_size=16)
        assert float((first.rows - near.rows).abs().max()) < 0.05 * float(near.rows.abs().max())  # no new world for it


@pytest.mark.parametrize("kernel", ["bicubic", "area"])
@pytest.mark.parametrize("size", [8, 16, 23])
def test_a_chain_is_exact_through_both_stages(chained, tolerant, kernel, size):
    lr, operator = photo(size), make_operator(kernel, hr_size=256, lr_size=size)
    z = draw(chained.network.config, range(2))
    pictures = answer(chained.network, operator, lr.expand(2, -1, -1, -1), z)
    torch.testing.assert_close(operator(pictures), lr.expand(2, -1, -1, -1), atol=2e-4, rtol=0)
    first, between = stages(operator, 64)
    middle = answer(tolerant.network, first, lr.expand(2, -1, -1, -1), z).clamp(0, 1)
    assert float((between(pictures) - middle).abs().mean()) < 0.01  # the second stage keeps what the first one made
    found = preimage.upsample(lr, range(2), method=chained, degradation=operator)
    assert found.images.shape == (2, 3, 256, 256)
    assert bool(found.exact.all())


def test_a_photo_that_is_larger_than_the_first_stage(chained):
    with pytest.raises(OperatorError, match="goes by way of 64 pixels"):
        preimage.upsample(photo(65), 0, method=chained)


def test_texture_is_a_level_of_its_own(chained):
    lr = photo(16)
    assert preimage.upsample(lr, 0, method=chained).latents.keys() == {"z-outline", "z-detail", "z-texture"}
    found = preimage.upsample(lr, range(2), method=chained, fresh=("texture",))
    _, between = stages(make_operator("bicubic", hr_size=256, lr_size=16), 64)
    small = between(found.images)
    assert float((found.images[0] - found.images[1]).abs().mean()) > 1e-4
    assert float((small[0] - small[1]).abs().max()) < 0.02  # the same face at the first stage
    within = preimage.upsample(lr, 0, method=chained, tolerance=6)
    assert 0 < float(within.error[0]) <= 6


@pytest.fixture(scope="module")
def tolerant() -> Posterior:
    torch.manual_seed(0)
    made = ConditionalGenerator(replace(CONFIG, tolerant=True), "tolerant").eval().requires_grad_(False)
    for part in ("rgb", "levels.0.rgb", "levels.1.rgb"):
        made.get_parameter(f"{part}.weight").mul_(0.3)
    return Posterior(weights=made, device="cpu")


@pytest.mark.parametrize("kernel", ["bicubic", "gaussian"])
@pytest.mark.parametrize("tolerance", [1.0, 6.0, 20.123456789])
def test_within_a_tolerance(tolerant, kernel, tolerance):
    lr, operator = photo(16), make_operator(kernel, hr_size=64, lr_size=16)
    free = answer(tolerant.network, operator, lr[None], draw(CONFIG, [0]), tolerance)
    miss = 255 * (operator(free) - lr).abs()
    assert 0.9 * tolerance < float(miss.max()) <= tolerance + 0.05  # so far and no further
    found = preimage.upsample(lr, range(3), method=tolerant, degradation=operator, tolerance=tolerance)
    assert found.tolerance == tolerance
    assert found.inexact_because == "tolerance"
    assert not found.exact.any()
    saved = downscale_saved(to_uint8(found.images), operator).double() - (lr * 255).round()
    assert 0 < float(saved.abs().max()) <= tolerance
    rms = saved.square().flatten(1).mean(1).sqrt().float()
    torch.testing.assert_close(found.error, rms)
    assert float(found.provenance(0)["tolerance"]) == tolerance
    exact = preimage.upsample(lr, range(3), method=tolerant, degradation=operator)
    assert bool(exact.exact.all())
    with pytest.raises(InputError, match="different tolerance"):
        Candidates.cat([exact, found])


@pytest.mark.parametrize(("size", "tolerance"), [(8, 1.0), (16, 4.0), (23, 2.0)])
def test_noisy_photos_are_answered_within_the_tolerance(tolerant, size, tolerance):
    noise = torch.randn(3, size, size, generator=torch.Generator().manual_seed(1)) * tolerance / 255
    lr = ((photo(size) + noise).clamp(0, 1) * 255).round() / 255
    found = preimage.upsample(lr, range(3), method=tolerant, tolerance=tolerance)
    saved = downscale_saved(to_uint8(found.images), found.degradation).double() - (lr * 255).round()
    assert torch.equal(found.worst, saved.abs().flatten(1).amax(1).long())
    assert bool(found.within.all())
    assert bool((found.worst <= tolerance).all())


def test_noise_is_not_copied_when_the_photo_may_be_missed(tolerant):
    lr = photo(16)
    noisy = (
        (lr + torch.randn(lr.shape, generator=torch.Generator().manual_seed(0)) * 4 / 255).clamp(0, 1) * 255
    ).round() / 255
    copied = preimage.upsample(noisy, 0, method=tolerant)
    found = preimage.upsample(noisy, 0, method=tolerant, tolerance=8)
    assert float(copied.error[0]) == 0
    assert float(found.error[0]) > 1
    assert found.provenance(0)["tolerance"] == "8"
    assert found.provenance(0)["exact"] == "false"


def test_tolerance_on_the_command_line(tolerant, tmp_path, capsys):
    save_prior(tmp_path / "tolerant.safetensors", tolerant.network, {})
    save_png(tmp_path / "face.png", photo(16))
    command = ["upsample", str(tmp_path / "face.png"), "--method", "posterior", "-o", str(tmp_path / "out"), "-n", "2"]
    command += ["--weights", str(tmp_path / "tolerant.safetensors"), "--tolerance", "6", "--device", "cpu"]
    assert main(command) == 0
    assert "2 of them within 6 grey levels of their input, as was chosen, so none is exact" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "out" / "summary.jsonl").read_text().splitlines()]
    assert [(line["exact"], line["tolerance"], line["inexact_because"]) for line in lines] == [
        (False, 6.0, "tolerance")
    ] * 2
    assert main(["verify", str(tmp_path / "out")]) == 0
    assert "2 of 2 candidates keep to the tolerance" in capsys.readouterr().out
    path = tmp_path / "out" / "face" / "seed0000.png"
    notes = read_provenance(path)
    for note, words in (
        ("250", "claims a tolerance of 250, but"),
        ("0", "note on the tolerance is damaged"),
        ("x", "damaged"),
    ):
        save_png(path, read_image(path).pixels, {**notes, "tolerance": note})
        assert main(["verify", str(tmp_path / "out")]) == 1
        assert words in capsys.readouterr().err
    save_png(path, torch.full((3, 64, 64), 0.9), notes)
    assert main(["verify", str(tmp_path / "out")]) == 1
    assert "misses its input by up to" in capsys.readouterr().err
    report = evaluate(tmp_path / "out", metrics=[])
    assert any("within 6 grey levels by choice" in note for note in report.notes)


def test_moving_towards_another_seed(method):
    lr = photo(8)
    own, other = (preimage.upsample(lr, seed, method=method).images[0] for seed in (1, 2))
    for share, wanted in ((0.0, own), (1.0, other)):
        found = preimage.upsample(lr, 1, method=method, towards=2, blend=share)
        assert float((found.images[0] - wanted).abs().max()) <= 1.01 / 255
    between = preimage.upsample(lr, 1, method=method, towards=2, blend=0.5)
    assert 0 < float((between.images[0] - other).abs().mean()) < float((own - other).abs().mean())


def test_moving_keeps_the_spread(method):
    """Towards oneself nothing changes, towards another the numbers stay as large as numbers are."""
    same = method.random([5], method.settings.with_({"towards": 5}))
    own = method.random([5], method.settings)
    for level in STAGE:
        torch.testing.assert_close(same[level], own[level])
        ends = [draw(CONFIG, [seed])[level] for seed in (1, 2)]
        for share in (0.0, 0.3, 0.5, 1.0):
            mixed = blend({level: ends[0]}, {level: ends[1]}, [share])[level]
            low, high = sorted(float(end.square().mean().sqrt()) for end in ends)
            assert low - 1e-4 <= float(mixed.square().mean().sqrt()) <= high + 1e-4


def test_settings_that_cannot_work_leave_no_folder(network, tmp_path, capsys):
    save_prior(tmp_path / "tiny.safetensors", network, {})
    save_png(tmp_path / "face.png", photo(8))
    save_png(tmp_path / "small.png", photo(8))
    out = tmp_path / "out"
    command = [
        "upsample",
        str(tmp_path / "face.png"),
        "-o",
        str(out),
        "--weights",
        str(tmp_path / "tiny.safetensors"),
        "--device",
        "cpu",
    ]
    for more, words in (
        (["--interpolate", "3"], "needs a reference or towards"),
        (["--interpolate", "3", "--method.towards", "1", "--seeds", "0-4"], "4 is beyond"),
        (["--tolerance", "4"], "was not trained with noisy photos"),
        (["--reference", str(tmp_path / "gone.png")], "no such file"),
        (["--reference", str(tmp_path / "small.png")], "a reference must have 64"),
        (["--method.fresh", "[texture]"], "has no level texture"),
    ):
        assert main([*command, *more]) == 1, more
        assert words in capsys.readouterr().err
        assert not out.exists()


def test_another_picture_of_the_same_name_is_another_reference(network, tmp_path, capsys):
    save_prior(tmp_path / "tiny.safetensors", network, {})
    save_png(tmp_path / "face.png", photo(8))
    reference, made = tmp_path / "reference.png", Posterior(weights=network, device="cpu")
    command = [
        "upsample",
        str(tmp_path / "face.png"),
        "-o",
        str(tmp_path / "out"),
        "--weights",
        str(tmp_path / "tiny.safetensors"),
    ]
    command += ["--device", "cpu", "--reference", str(reference), "-n"]
    found = []
    for seed, code in ((0, 0), (1, 1)):
        save_png(reference, photo(64, seed))
        assert main([*command, str(seed + 1)]) == code
        found.append(preimage.upsample(photo(8), 0, method=made, reference=str(reference)).images)
    assert "other settings" in capsys.readouterr().err
    assert not torch.equal(*found)


def test_a_walk_from_one_answer_to_another(method):
    lr = photo(8)
    ends = [preimage.upsample(lr, seed, method=method).images[0] for seed in (1, 2)]
    walk = preimage.upsample(lr, range(5), method=method, base=1, towards=2, interpolate=4)
    assert bool(walk.exact.all())
    for end, step in zip(ends, (0, 4), strict=True):
        assert float((walk.images[step] - end).abs().max()) <= 1.01 / 255
    steps = [float((a - b).abs().mean()) for a, b in zip(walk.images[1:], walk.images[:-1], strict=True)]
    whole = float((ends[0] - ends[1]).abs().mean())
    assert all(0 < step < 0.7 * whole for step in steps)
    alone = preimage.upsample(lr, 3, method=method, base=1, towards=2, interpolate=4)  # a seed is an address here too
    assert float((alone.images[0] - walk.images[3]).abs().max()) <= 1.01 / 255


def test_the_embedded_network_answers_an_example():
    lr = read_image(Path(__file__).parents[2] / "examples" / "face0.png").pixels
    found = preimage.upsample(lr, range(4), method="posterior", device="cpu")
    assert bool(found.exact.all())
    assert found.prior in preimage.list_weights()
    assert 1 < float(found.spread().mean()) < 40
    smooth = torch.nn.functional.interpolate(lr[None], found.images.shape[-2:], mode="bicubic")[0]
    detail = [float((x - torch.nn.functional.avg_pool2d(x, 3, 1, 1)).abs().mean()) for x in (found.images[0], smooth)]
    assert detail[0] > 1.3 * detail[1]  # sharper than an enlargement


def test_what_cannot_work_says_so(method, network, tiny_prior, tmp_path):
    lr = photo(8)
    for controls, words in (
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"fresh": ["eyes"]}, "fresh 'eyes' is unknown; there are outline, detail, texture"),
        ({"steps": 3}, "unknown control steps; there are temperature, sharpness, fresh, base"),
        ({"blend": 2}, "blend"),
        ({"blend": None}, "must be a finite number"),
        ({"temperature": "hot"}, "must be a finite number"),
        ({"base": 1.5}, "must be a whole number"),
        ({"base": -1}, "must be 0 or more"),
        ({"fresh": 3}, "must be a list"),
        ({"fresh": ()}, "name one level or more"),
        ({"interpolate": 4}, "needs a reference or towards"),
        ({"interpolate": -4, "towards": 1}, "must be 0 or more"),
        ({"tolerance": 0.5}, "must be 0 or from 1 to 64"),
        ({"tolerance": float("nan")}, "must be a finite number"),
        ({"tolerance": 4}, "tiny-posterior was not trained with noisy photos"),
        ({"reference": "x.png", "towards": 1}, "give one of them"),
    ):
        with pytest.raises(MethodError, match=words):
            preimage.upsample(lr, 0, method=method, **controls)
    with pytest.raises(InputError, match="no such file"):
        preimage.upsample(lr, 0, method=method, reference=str(tmp_path / "gone.png"))
    save_png(tmp_path / "small.png", lr)
    with pytest.raises(InputError, match="reference: is a int"):
        preimage.upsample(lr, 0, method=method, reference=3)
    with pytest.raises(InputError, match="8x8 pixels, but a reference must have 64"):
        preimage.upsample(lr, 0, method=method, reference=str(tmp_path / "small.png"))
    with pytest.raises(OperatorError, match="nothing to imagine"):
        preimage.upsample(photo(64), 0, method=method)
    with pytest.raises(MethodError, match="preset 'paper' is unknown"):
        Posterior(weights=network, preset="paper")
    with pytest.raises(MethodError, match="no network of posterior"):
        Posterior(weights=tiny_prior)  # type: ignore[arg-type]
    save_prior(tmp_path / "prior.safetensors", tiny_prior, {})
    with pytest.raises(WeightsError, match="answers no photos"):
        load_sampler(tmp_path / "prior.safetensors")
    with pytest.raises(WeightsError, match="kind 'prior', not an upsampler"):
        load_sampler("faces64")
    save_prior(tmp_path / "sampler.safetensors", network, {})
    with pytest.raises(WeightsError, match="which is not a prior"):
        load_prior(tmp_path / "sampler.safetensors")


def test_the_command(network, tmp_path, capsys):
    save_prior(tmp_path / "tiny.safetensors", network, {})
    save_png(tmp_path / "face.png", photo(11))
    command = [
        "upsample",
        str(tmp_path / "face.png"),
        "--method",
        "posterior",
        "--weights",
        str(tmp_path / "tiny.safetensors"),
    ]
    assert main([*command, "-o", str(tmp_path / "out"), "--seeds", "0-2", "--device", "cpu", "--save-latents"]) == 0
    assert "3 candidates written" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "out")]) == 0
    found = preimage.upsample(
        photo(11), range(3), method=Posterior(weights=load_sampler(tmp_path / "tiny.safetensors"), device="cpu")
    )
    for i in range(3):
        assert torch.equal(read_image(tmp_path / "out" / "face" / f"seed{i:04d}.png").pixels, found.images[i])
