"""Adam: number for number torch's own, also when rates change and candidates leave."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from preimage.invert.adam import Adam
from preimage.invert.search_settings import SearchSettings
from preimage.invert.walk import leave, start


def test_every_step_is_torchs():
    torch.manual_seed(0)
    ours = [torch.randn(3, 4).requires_grad_(), torch.randn(2, 5, 5).requires_grad_()]
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    a, b = Adam(ours, lr=0.3), torch.optim.Adam(theirs, lr=0.3)
    for step in range(25):
        a.param_groups[0]["lr"] = b.param_groups[0]["lr"] = 0.3 / (1 + step)
        for optimiser, params in ((a, ours), (b, theirs)):
            optimiser.zero_grad()
            sum((x.sin() ** 2).sum() * (i + 1) for i, x in enumerate(params)).backward()
            optimiser.step()
        assert all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True)), step


def test_a_candidate_leaves_with_its_moments(tiny_prior):
    walkers = start(tiny_prior, [0, 1, 2], SearchSettings())
    optimiser = Adam(walkers.parameters(), lr=0.1)
    torch.stack([(p**2).sum() for p in walkers.parameters()]).sum().backward()
    optimiser.step()
    before = optimiser.state[walkers.u]["exp_avg"].clone()
    leave(walkers, optimiser, torch.tensor([True, False, True]))
    assert torch.equal(optimiser.state[walkers.u]["exp_avg"], before[[0, 2]])
    assert optimiser.state[walkers.u]["step"] == 1
    assert optimiser.param_groups[0]["params"][0] is walkers.u


@pytest.mark.parametrize("method", ["posterior", "pulse", "sr-nam"])
def test_an_answer_does_not_import_torchs_compiler(method):
    """It would take a second of every command."""
    face = Path(__file__).parents[2] / "examples" / "face0.png"
    steps = "" if method == "posterior" else ", steps=2"
    code = (
        "import sys, preimage\n"
        f"preimage.upsample({str(face)!r}, 0, method={method!r}, device='cpu'{steps})\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
