"""The learned degradation: its published shape, and what searches, files and commands rely on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from preimage.cli import main
from preimage.degrade.degradation_gan import DegradationGAN, DegradationGANConfig
from preimage.degrade.learned import LearnedDegradation, apply_learned
from preimage.degrade.linear import area
from preimage.errors import OperatorError, WeightsError
from preimage.files import read_provenance
from preimage.nets.residual import PreActivationBlock
from preimage.seeds import normal
from preimage.weight_files import read_metadata, save_prior
from preimage.weights import load_degradation, load_prior

TINY = DegradationGANConfig(16, 8, 5, down=(4, 8), up=(6,))


@pytest.fixture
def tiny() -> DegradationGAN:
    """A small network whose batch norms have seen pictures."""
    torch.manual_seed(0)
    model = DegradationGAN(TINY, "tiny")
    with torch.no_grad():
        for _ in range(20):
            model(torch.rand(16, 3, 16, 16), torch.randn(16, 5))
    return model.eval().requires_grad_(False)


@pytest.fixture
def file(tiny, tmp_path) -> Path:
    path = tmp_path / "degradation.safetensors"
    save_prior(path, tiny, {"images_seen": 1})
    return path


def test_the_published_shape():
    """SR-NAM, section 3.2: 12 residual blocks in 6 groups, 64 -> 4 by pooling, 4 -> 16 by two pixel shuffles, noise of 100."""
    with torch.device("meta"):
        model = DegradationGAN()
    assert (model.hr_size, model.lr_size, model.scale, model.noise_dim) == (64, 16, 4.0, 100)
    assert len(model.groups) == 6
    blocks = [m for m in model.modules() if isinstance(m, PreActivationBlock)]
    assert len(blocks) == 12
    assert [bool(b.pool) for b in blocks] == [True, False] * 4 + [False] * 4
    assert {b.pool for b in blocks} == {"average", ""}
    assert model.spread.weight.shape == (64 * 64, 100)

    def block(a: int, b: int) -> int:
        return 9 * a * b + 9 * b * b + b + 2 * a + 2 * b + (a * b if a != b else 0)

    widths = [(96, 96), (96, 128), (128, 256), (256, 512), (512 // 4, 128), (128 // 4, 32)]
    expected = sum(block(a, b) + block(b, b) for a, b in widths)
    expected += 101 * 64 * 64 + (4 * 9 * 96 + 96) + 2 * 32 + (32 * 9 * 8 + 8) + (8 * 9 * 3 + 3)
    assert sum(p.numel() for p in model.parameters()) == expected


def test_sizes_on_the_way():
    model = DegradationGAN(DegradationGANConfig(down=(4, 4, 4, 4), up=(4, 4))).eval()
    sides: list[int] = []
    for group in model.groups:
        group.register_forward_hook(lambda _, __, out: sides.append(out.shape[-1]))
    out = model(torch.rand(2, 3, 64, 64), torch.randn(2, 100)).detach()
    assert sides == [32, 16, 8, 4, 8, 16]
    assert out.shape == (2, 3, 16, 16)
    assert 0 <= float(out.min()) <= float(out.max()) <= 1


def degraded(network, pictures, seeds):
    """Pictures of any size through a network, with the noise of these seeds."""
    with torch.no_grad():
        return apply_learned(network, pictures, network.noise(seeds))


def test_contract(tiny):
    assert isinstance(tiny, LearnedDegradation)
    assert (tiny.name, tiny.hr_size, tiny.lr_size, tiny.scale, tiny.noise_dim) == ("tiny", 16, 8, 2.0, 5)
    assert torch.equal(tiny.noise([3, 1]), normal([3, 1], (5,), "degradation"))
    assert not torch.equal(tiny.noise([3]), tiny.noise([3], "other"))
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(tiny(x), tiny(x, torch.zeros(2, 5)))


def test_a_result_depends_on_its_picture_and_noise_alone(tiny):
    x, z = torch.rand(4, 3, 16, 16), tiny.noise(range(4))
    together = tiny(x, z)
    assert torch.allclose(together[2:3], tiny(x[2:3], z[2:3]), atol=1e-6)
    assert torch.allclose(together.flip(0), tiny(x.flip(0), z.flip(0)), atol=1e-6)
    assert torch.equal(degraded(tiny, x, range(4)), together)


def test_noise_matters_and_gradients_reach_both(tiny):
    x = torch.rand(1, 3, 16, 16).repeat(2, 1, 1, 1).requires_grad_(True)
    z = tiny.noise([0, 1]).requires_grad_(True)
    out = tiny(x, z)
    assert float((out[0] - out[1]).detach().abs().mean()) > 1e-4
    out.square().sum().backward()
    assert all(bool((v.grad.flatten(1).abs().sum(1) > 0).all()) for v in (x, z))


def test_larger_pictures_are_reduced_by_area_first(tiny):
    x = torch.rand(1, 3, 40, 40)
    assert torch.allclose(degraded(tiny, x, [7]), degraded(tiny, area((40, 40), lr_size=(16, 16))(x), [7]), atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 3, 15, 15), "tiny degrades 16x16 pictures, but these are 15x15"),
        ((1, 3, 32, 30), "tiny: takes square pictures, not 30x32. Crop the face"),
    ],
)
def test_pictures_that_do_not_fit(tiny, shape, words):
    with pytest.raises(OperatorError, match=words):
        degraded(tiny, torch.rand(shape), [0])


def test_wrong_shapes(tiny):
    with pytest.raises(OperatorError, match=r"pictures \(n, 3, 16, 16\), not \(1, 3, 32, 32\)"):
        tiny(torch.rand(1, 3, 32, 32))
    with pytest.raises(OperatorError, match=r"noise \(2, 5\), not \(1, 5\)"):
        tiny(torch.rand(2, 3, 16, 16), torch.zeros(1, 5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr_size": 32}, "4 halvings and 2 doublings of 64 px do not make 32 px"),
        ({"hr_size": 24, "lr_size": 6}, "4 halvings"),
        ({"down": (8, 8, 8, 6)}, "multiples of 4"),
        ({"up": (6, 8)}, "multiples of 4"),
        ({"noise_dim": 0}, r"noise_dim \(0\) must be a whole number from 1"),
        ({"noise_dim": 1 << 30}, "must be a whole number from 1 to 8192"),
        ({"down": (8,) * 100}, "at most 64 widths"),
        ({"hr_size": 64.0}, r"hr_size \(64\.0\) must be a whole number"),
    ],
)
def test_configurations_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        DegradationGANConfig(**settings)


# --------------------------------------------------------------------------------------------------- files, commands


def test_a_file_gives_the_same_network(tiny, file):
    assert read_metadata(file)["architecture"] == "degradation-gan"
    again = load_degradation(file)
    assert isinstance(again, DegradationGAN)
    assert (again.config, again.name, again.training) == (tiny.config, "tiny", False)
    assert not any(p.requires_grad for p in again.parameters())
    x = torch.rand(2, 3, 16, 16)
    assert torch.allclose(degraded(again, x, [0, 1]), degraded(tiny, x, [0, 1]), atol=2e-3)  # half precision


def test_priors_and_degradations_are_kept_apart(file):
    with pytest.raises(WeightsError, match="DegradationGAN, which is not a prior"):
        load_prior(file)
    with pytest.raises(WeightsError, match="'prior', not a degradation"):
        load_degradation("faces64")
    with pytest.raises(WeightsError, match="rust: neither an embedded degradation"):
        load_degradation("rust")


def test_counts_of_batches_fit_half_precision(tiny, tmp_path):
    for module in tiny.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked.fill_(500_000)
    save_prior(tmp_path / "x.safetensors", tiny, {})
    x = torch.rand(1, 3, 16, 16)
    assert torch.allclose(load_degradation(tmp_path / "x.safetensors")(x), tiny(x), atol=2e-3)


def test_the_command(tiny, file, tmp_path, capsys):
    source = tmp_path / "face.png"
    Image.effect_noise((32, 32), 80).convert("RGB").save(source)
    command = ["degrade", str(source), "--degradation", str(file), "-o"]
    assert main([*command, str(tmp_path / "a"), "--variants", "3", "--seed", "2"]) == 0
    assert "3 pictures written" in capsys.readouterr().out
    made = {p.name: Image.open(p) for p in sorted((tmp_path / "a").iterdir())}
    assert list(made) == [f"face_seed000{i}.png" for i in (2, 3, 4)]
    assert {im.size for im in made.values()} == {(8, 8)}
    assert len({im.tobytes() for im in made.values()}) == 3
    assert main([*command, str(tmp_path / "b"), "--seed", "3"]) == 0
    assert Image.open(tmp_path / "b" / "face.png").tobytes() == made["face_seed0003.png"].tobytes()
    about = read_provenance(tmp_path / "b" / "face.png")
    x = torch.frombuffer(bytearray(Image.open(source).tobytes()), dtype=torch.uint8).view(1, 32, 32, 3)
    assert about["degraded_by"] == "tiny"
    expected = degraded(load_degradation(file), x.permute(0, 3, 1, 2).float() / 255, [int(about["noise_seed"])])
    saved = torch.frombuffer(bytearray(made["face_seed0003.png"].tobytes()), dtype=torch.uint8).view(8, 8, 3)
    assert float((expected[0].permute(1, 2, 0) * 255 - saved).abs().max()) <= 0.5 + 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scale", "4"], "its own downscaling"),
        (["--size", "4"], "its own downscaling"),
        (["--variants", "-1"], "variants"),
    ],
)
def test_settings_that_contradict_the_model(file, tmp_path, capsys, options, message):
    source = tmp_path / "face.png"
    Image.new("RGB", (16, 16)).save(source)
    assert main(["degrade", str(source), "--degradation", str(file), "-o", str(tmp_path / "a"), *options]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_picture_that_is_too_small_does_not_stop_the_others(file, tmp_path, capsys):
    for name, side in (("small", 9), ("large", 20)):
        Image.new("RGB", (side, side)).save(tmp_path / f"{name}.png")
    command = ["degrade", str(tmp_path / "small.png"), str(tmp_path / "large.png"), "--degradation", str(file)]
    assert main([*command, "-o", str(tmp_path / "a")]) == 1
    said = capsys.readouterr().err
    assert "small.png" in said
    assert "these are 9x9" in said
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["large.png"]


def test_variants_need_something_that_varies(tmp_path, capsys):
    Image.new("RGB", (16, 16)).save(tmp_path / "face.png")
    assert (
        main(["degrade", str(tmp_path / "face.png"), "-o", str(tmp_path / "a"), "--scale", "2", "--variants", "2"]) == 1
    )
    assert "learned --degradation or a --corrupt" in capsys.readouterr().err
