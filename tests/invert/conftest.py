"""Shared by the tests of methods: an encoder that belongs to the tiny prior and writes something."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from preimage.nets.pro_pulse import Head, ProPulseConfig, ProPulseEncoder
from preimage.train.pro_pulse_networks import settle
from preimage.weight_files import save_prior


@pytest.fixture(scope="session")
def tiny_encoder(tiny_prior) -> ProPulseEncoder:
    """Photos of 4 px to the six codes of the tiny prior; different photos get different codes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = ProPulseEncoder(
            ProPulseConfig(
                lr_size=4,
                hr_size=16,
                rows=(4, 6),
                w_dim=16,
                width=4,
                head_width=8,
                groups=1,
                blocks=1,
                reduction=4,
                silent=3,
            ),
            "pro-pulse-tiny",
        )
        settle(made, tiny_prior)
        for module in made.modules():
            if isinstance(module, Head):
                torch.nn.init.normal_(module.out.weight, std=0.3)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def encoder_file(tmp_path_factory, tiny_prior, tiny_encoder) -> Path:
    """The same in a file, bound to the tiny prior."""
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    save_prior(path, tiny_encoder, {}, degradations=("bicubic",), looked_through=(), bound_to=tiny_prior)
    return path
