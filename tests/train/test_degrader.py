"""Small photos by name: each kind is what it says, its numbers come from torch's own generator, and what does not fit is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from preimage.degrade.degradation_gan import DegradationGAN, DegradationGANConfig
from preimage.degrade.learned import apply_learned
from preimage.degrade.linear import bicubic
from preimage.degrade.style_vae import StyleVAE, StyleVAEConfig
from preimage.errors import InputError, RecipeError, WeightsError
from preimage.train.degrader import make_degrader
from preimage.weight_files import save_prior
from preimage.weights import load_degradation


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> dict[str, str]:
    """A styleVAE and a degradation-gan, 16 -> 4 px, as files."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("networks")
    made = {
        "style": StyleVAE(StyleVAEConfig(16, 4, 5, 6, 1, 1), "style"),
        "gan": DegradationGAN(DegradationGANConfig(16, 4, 5, (4, 8), ()), "gan"),
    }
    with torch.no_grad():
        for _ in range(20):
            made["style"].style(torch.rand(16, 3, 4, 4))
    for name, network in made.items():
        save_prior(folder / f"{name}.safetensors", network.eval(), {}, dtype=torch.float32)
    return {name: str(folder / f"{name}.safetensors") for name in made}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("small")
    for i, level in enumerate((10, 240)):
        Image.fromarray(np.full((20, 20, 3), level, np.uint8)).save(folder / f"{i}.png")
    return str(folder)


def test_linear_and_corrupt():
    faces = torch.rand(3, 3, 16, 16)
    plain = make_degrader("bicubic", 16, 4)(faces)
    assert torch.equal(plain, (bicubic(16, lr_size=4)(faces).clamp(0, 1) * 255).round() / 255)
    assert not torch.equal(make_degrader("area", 16, 4)(faces), plain)
    degrade = make_degrader("corrupt", 16, 4, corruptions=["motion_blur:3", "gaussian_noise:20"])
    torch.manual_seed(3)
    first, second = degrade(faces), degrade(faces)
    torch.manual_seed(3)
    assert torch.equal(degrade(faces), first)
    assert not torch.equal(first, second)
    assert float((first - plain).abs().mean()) * 255 > 5
    assert torch.equal((first * 255).round() / 255, first)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1


@pytest.mark.parametrize("name", ["style", "gan"])
def test_learned_ones(networks, name):
    faces = torch.rand(2, 3, 20, 20)
    degrade = make_degrader(networks[name], 20, 4)
    torch.manual_seed(1)
    made = degrade(faces)
    torch.manual_seed(1)
    noise = torch.randn(2, 5)
    network = load_degradation(networks[name])
    assert torch.allclose(made, apply_learned(network, faces, noise), atol=0.51 / 255)
    assert not made.requires_grad


def test_styles_of_real_photos(networks, small):
    degrade = make_degrader(networks["style"], 16, 4, styles=[small])
    faces = torch.rand(1, 3, 16, 16).expand(40, -1, -1, -1)
    torch.manual_seed(0)
    means = degrade(faces).flatten(1)
    apart = torch.cdist(means, means)
    assert float(apart.max()) > 0.05  # two photos, two kinds of results


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"degradation": "corrupt"}, RecipeError, "go together"),
        ({"degradation": "bicubic", "corruptions": ["jpeg:50"]}, RecipeError, "go together"),
        ({"degradation": "corrupt", "corruptions": ["rain:5"]}, InputError, "no corruption 'rain'"),
        ({"degradation": "bicubic", "styles": ["x"]}, RecipeError, "bicubic takes over none"),
        ({"degradation": "{gan}", "styles": ["x"]}, RecipeError, "gan takes over none"),
        ({"degradation": "{gan}", "hr_size": 12}, RecipeError, r"takes 16 pixels or more and makes 4; .* faces of 12"),
        ({"degradation": "{style}", "lr_size": 8}, RecipeError, "photos of 8"),
        ({"degradation": "rust"}, WeightsError, "rust: neither an embedded degradation"),
    ],
)
def test_what_does_not_fit_is_refused(networks, settings, error, message):
    given = {"degradation": "bicubic", "hr_size": 16, "lr_size": 4} | settings
    given["degradation"] = given["degradation"].format(**networks)
    with pytest.raises(error, match=message):
        make_degrader(**given)
