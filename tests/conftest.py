"""Shared fixtures: tiny random priors with everything heard, low-resolution pictures that one of them can explain."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from preimage.degrade.linear import bicubic
from preimage.faces.face import Face
from preimage.generate.style_prior import StyleConfig, StylePrior
from preimage.generate.stylegan import StyleGAN, StyleGANConfig
from preimage.generate.stylegan2 import StyleGAN2, StyleGAN2Config

# eyes 38 apart make a square of 152 around (50, 44), see test_align; here one of side 1 around the origin
SHAPE = (torch.tensor([[31.0, 40], [69, 40], [50, 58], [35, 80], [65, 80]]) - torch.tensor([50.0, 44])) / 152


@pytest.fixture(scope="session")
def tiny_prior() -> StyleGAN2:
    """16x16, some thousand parameters, random but fixed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prior = StyleGAN2(
            StyleGAN2Config(16, channel_base=128, channel_max=16, z_dim=16, w_dim=16, mapping_layers=2), "tiny"
        )
        with torch.no_grad():
            for side in (4, 8, 16):
                for name in ("conv0", "conv1"):
                    if hasattr(getattr(prior.synthesis, f"b{side}"), name):
                        getattr(getattr(prior.synthesis, f"b{side}"), name).noise_strength.fill_(0.1)
        prior.refit(samples=5_000)
    return prior.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_lr(tiny_prior: StyleGAN2) -> torch.Tensor:
    """A 4x4 picture that the tiny prior can make, (3, 4, 4) on the 8-bit grid."""
    small = bicubic(16, lr_size=4)(tiny_prior.sample([123]))[0]
    return (small.clamp(0, 1) * 255).round() / 255


@pytest.fixture(scope="session")
def random_style_prior() -> Callable[..., StylePrior]:
    """Makes one of a configuration: untrained, but noise is heard, and biases and the constant are not trivial."""

    def make(config: StyleConfig, prior: type[StylePrior] = StyleGAN) -> StylePrior:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made = prior(config, "tiny").eval().requires_grad_(False)
            for name, p in made.named_parameters():
                if name.endswith(("noise_strength", "bias", "const")):
                    p.add_(torch.randn_like(p) * (0.3 if name.startswith("synthesis") else 3.0))
        made.refit(2_000)
        return made

    return make


@pytest.fixture(scope="session")
def tiny_stylegan(random_style_prior) -> StyleGAN:
    """16x16, some thousand parameters."""
    made: StyleGAN = random_style_prior(
        StyleGANConfig(resolution=16, channel_base=128, channel_max=12, z_dim=10, w_dim=14, mapping_layers=3)
    )
    return made


@pytest.fixture(scope="session")
def face_at() -> Callable[..., Face]:
    """An upright face whose square has its centre at x, y and this side."""

    def make(x: float, y: float, side: float, score: float = 1.0) -> Face:
        found = Face.at(SHAPE * side + torch.tensor([x, y]))
        return Face(found.box, found.points, score)

    return make
