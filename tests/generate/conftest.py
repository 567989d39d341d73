"""Shared fixtures: style-based priors, random but with everything heard."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from preimage.generate.style_prior import StyleConfig, StylePrior
from preimage.generate.stylegan import StyleGAN, StyleGANConfig


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
