"""Shared fixtures: a tiny random prior, low-resolution pictures it can explain, one thread."""

from __future__ import annotations

import pytest
import torch

from preimage.degrade.linear import bicubic
from preimage.generate.stylegan2 import StyleGAN2, StyleGAN2Config


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
