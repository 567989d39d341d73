"""styleVAE: its published shape, AdaIN as printed, styles of photos and of the Gaussian, what searches and commands rely on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from preimage.cli import main
from preimage.degrade.degradation_gan import DegradationGAN, DegradationGANConfig
from preimage.degrade.learned import LearnedDegradation
from preimage.degrade.linear import area, bicubic
from preimage.degrade.style_vae import AdaIN, Block, Styled, StyleVAE, StyleVAEConfig
from preimage.errors import OperatorError, WeightsError
from preimage.files import read_provenance
from preimage.invert.nam import SRNAM
from preimage.invert.pulse import Pulse
from preimage.seeds import normal
from preimage.weight_files import read_metadata, save_prior
from preimage.weights import load_degradation

TINY = {"hr_size": 16, "lr_size": 4, "latent": 5, "width": 6, "encoder_blocks": 1}


def made(**changes) -> StyleVAE:
    torch.manual_seed(0)
    model = StyleVAE(StyleVAEConfig(**(TINY | changes)), "tiny")
    with torch.no_grad():
        for p in model.head.parameters():
            p.normal_(std=0.3)
        for _ in range(50):
            model.style(torch.rand(16, 3, model.lr_size, model.lr_size))  # what normalises styles has seen photos
    return model.eval().requires_grad_(False)


@pytest.fixture
def tiny() -> StyleVAE:
    return made()


@pytest.fixture
def file(tiny, tmp_path) -> Path:
    path = tmp_path / "style.safetensors"
    save_prior(path, tiny, {"images_seen": 1})
    return path


def test_the_published_shape():
    """Sections 3.1 and 4.1: 3x3 convolutions, latent 256, 8 residual blocks in inference and 2 in generation, AdaIN after each."""
    with torch.device("meta"):
        model = StyleVAE()
    assert (model.hr_size, model.lr_size, model.scale, model.noise_dim) == (64, 16, 4.0, 256)
    assert {m.kernel_size for m in model.modules() if isinstance(m, nn.Conv2d)} == {(3, 3)}
    count = {name: sum(isinstance(m, Block) for m in part.modules()) for name, part in model.named_children()}
    assert count["content_encoder"] == count["style_encoder"] == 8
    assert (count["blocks"], len(model.adain)) == (2, 2)
    block, stem, halving = 2 * (64 * 64 * 9 + 64), 27 * 64 + 64, 64 * 64 * 9 + 64
    expected = 18 * block + 2 * stem + 3 * halving + 129 * 512 + 2 * 257 * 128 + (64 * 27 + 3)
    assert sum(p.numel() for p in model.parameters()) == expected


def test_adain_is_equation_2():
    layer, x, z = AdaIN(3, 2), torch.randn(2, 2, 4, 5), torch.randn(2, 3)
    scale, shift = layer.affine(z)[:, :2], layer.affine(z)[:, 2:]
    mean, spread = x.mean((2, 3), keepdim=True), x.std((2, 3), keepdim=True, unbiased=False)
    expected = scale[:, :, None, None] * (x - mean) / spread + shift[:, :, None, None]
    assert torch.allclose(layer(x, z), expected, atol=1e-4)
    assert torch.allclose(layer(x, z).mean((2, 3)), shift, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"adain": False}, {"residual": True}, {"lr_size": 8}])
def test_contract(changes):
    model = made(**changes)
    small = model.lr_size
    assert isinstance(model, LearnedDegradation)
    assert (model.name, model.hr_size, model.scale, model.noise_dim) == ("tiny", 16, 16 / small, 5)
    assert torch.equal(model.noise([3, 1]), normal([3, 1], (5,), "degradation"))
    assert not torch.equal(model.noise([3]), model.noise([3], "other"))
    x, z = torch.rand(3, 3, 16, 16), model.noise(range(3))
    out = model(x, z)
    assert out.shape == (3, 3, small, small)
    assert 0 <= float(out.min()) <= float(out.max()) <= 1
    assert torch.equal(model(x), model(x, torch.zeros(3, 5)))
    assert torch.allclose(out[1:2], model(x[1:2], z[1:2]), atol=1e-6)
    x, z = x[:1].repeat(2, 1, 1, 1).requires_grad_(True), z[:2].clone().requires_grad_(True)
    out = model(x, z)
    assert float((out[0] - out[1]).detach().abs().mean()) > 1e-4
    out.square().sum().backward()
    assert all(bool((v.grad.flatten(1).abs().sum(1) > 0).all()) for v in (x, z))


def test_residual_changes_the_bicubic_downscaling():
    torch.manual_seed(0)
    model, x = StyleVAE(StyleVAEConfig(residual=True, **TINY)), torch.rand(2, 3, 16, 16)
    x[1] = 0
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
    expected = bicubic(16, lr_size=4)(x).clamp(0.5 / 255, 1 - 0.5 / 255)
    assert torch.allclose(model(x, torch.randn(2, 5)), expected, atol=1e-5)


def test_styles_of_photos(tiny):
    photos = torch.rand(2, 3, 4, 4)
    mean, log_spread = tiny.style(photos)
    assert mean.shape == log_spread.shape == (2, 5)
    assert torch.allclose(tiny.style(photos[1:])[0], mean[1:], atol=1e-6)
    styled = Styled(tiny, photos[1], "tiny in a style")
    assert isinstance(styled, LearnedDegradation)
    drawn = styled.noise(range(4000))
    assert torch.allclose(drawn.mean(0), mean[1], atol=5 * float(log_spread.exp().max()) / 4000**0.5)
    assert torch.allclose(drawn.std(0), log_spread[1].exp(), rtol=0.1)
    x = torch.rand(3, 3, 16, 16)
    assert torch.equal(styled(x), tiny(x, styled.mean.expand(3, -1)))
    assert torch.equal(styled(x, drawn[:3]), tiny(x, drawn[:3]))
    large = torch.rand(3, 9, 12)
    square = area((9, 9), lr_size=(4, 4))(large[None, :, :, 1:10])
    assert torch.allclose(Styled(tiny, large).mean, tiny.style(square)[0], atol=1e-5)


def test_photos_and_networks_without_styles(tiny):
    with pytest.raises(OperatorError, match=r"is 9x3; tiny needs 4 pixels or more"):
        Styled(tiny, torch.rand(3, 3, 9))
    with pytest.raises(OperatorError, match=r"gan: has no styles of photos to take"):
        Styled(DegradationGAN(DegradationGANConfig(16, 8, 5, (4, 8), (6,)), "gan"), torch.rand(3, 8, 8))
    with pytest.raises(OperatorError, match=r"infers styles from \(n, 3, 4, 4\)"):
        tiny.style(torch.rand(1, 3, 5, 5))
    with pytest.raises(OperatorError, match=r"pictures \(n, 3, 16, 16\), not \(1, 3, 32, 32\)"):
        tiny(torch.rand(1, 3, 32, 32))
    with pytest.raises(OperatorError, match=r"noise \(2, 5\), not \(1, 5\)"):
        tiny(torch.rand(2, 3, 16, 16), torch.zeros(1, 5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr_size": 24}, r"hr_size \(64\) must be 2, 4, 8"),
        ({"lr_size": 64}, "times lr_size"),
        ({"hr_size": 12, "lr_size": 3}, "lr_size even"),
        ({"latent": 0}, r"latent \(0\) must be a whole number from 1"),
        ({"encoder_blocks": 1000}, "encoder_blocks"),
        ({"adain": 1}, "true or false"),
    ],
)
def test_configurations_that_cannot_be(settings, message):
    with pytest.raises(WeightsError, match=message):
        StyleVAEConfig(**settings)


def test_searches_go_through_it(tiny, tiny_prior):
    photo = (tiny(tiny_prior.sample([1]).clamp(0, 1), tiny.noise([1]))[0] * 255).round() / 255
    for method in (SRNAM, Pulse):
        for network in (tiny, Styled(tiny, photo)):
            loaded = method(prior=tiny_prior, device="cpu")
            (found,) = loaded.upsample(photo, [0, 1], network, steps=3)
            assert found.l1 is not None
            assert not found.exact.any()


# --------------------------------------------------------------------------------------------------- files, commands


def test_a_file_gives_the_same_network(tiny, file):
    assert read_metadata(file)["architecture"] == "style-vae"
    again = load_degradation(file)
    assert isinstance(again, StyleVAE)
    assert (again.config, again.name, again.training) == (tiny.config, "tiny", False)
    x, z = torch.rand(2, 3, 16, 16), tiny.noise([0, 1])
    assert torch.allclose(again(x, z), tiny(x, z), atol=5e-3)  # half precision


def test_the_command(file, tmp_path, capsys):
    source, style = tmp_path / "face.png", tmp_path / "street.png"
    Image.effect_noise((32, 32), 80).convert("RGB").save(source)
    Image.effect_noise((7, 9), 60).convert("RGB").resize((7, 9)).save(style)
    command = ["degrade", str(source), "--degradation", str(file), "--variants", "2", "-o"]
    assert main([*command, str(tmp_path / "free")]) == 0
    assert main([*command, str(tmp_path / "styled"), "--style", str(style)]) == 0
    assert "2 pictures written" in capsys.readouterr().out
    made = {p: Image.open(p) for name in ("free", "styled") for p in sorted((tmp_path / name).iterdir())}
    assert {im.size for im in made.values()} == {(4, 4)}
    assert len({im.tobytes() for im in made.values()}) == 4
    assert (
        read_provenance(tmp_path / "styled" / "face_seed0000.png")["degraded_by"] == "tiny in the style of street.png"
    )


def test_styles_where_there_are_none(tmp_path, capsys):
    source = tmp_path / "face.png"
    Image.new("RGB", (64, 64)).save(source)
    command = ["degrade", str(source), "-o", str(tmp_path / "a"), "--style", str(source)]
    for more, message in (
        (["--size", "16"], "bicubic has no styles of photos"),
        (["--degradation", "degradation-gan"], "has no styles of photos to take"),
        (["--degradation", "degradation-gan", "--style", str(tmp_path / "gone.png")], "gone.png"),
    ):
        assert main([*command, *more]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_calibrated_descriptions_have_no_mean_and_unit_spread():
    """Over the photos that it was calibrated with, whatever it had seen; the styles of one photo do not depend on the others then."""
    torch.manual_seed(0)
    model = StyleVAE(StyleVAEConfig(16, 4, 5, 6, 1, 1)).eval()
    photos = torch.rand(40, 3, 4, 4)
    seen = []
    model.style_encoder[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.calibrate(photos)
    first = model.style(photos)[0]
    assert torch.allclose(seen[0].mean(0), torch.zeros(12), atol=1e-4)
    assert torch.allclose(seen[0].std(0), torch.ones(12), atol=0.05)
    assert torch.allclose(model.style(photos[:1])[0], first[:1], atol=1e-5)
