"""Optimisers: torch's own steps, number for number, and each row as if it were alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from preimage.invert.optimisers import OPTIMISERS
from preimage.invert.search_settings import SearchSettings
from preimage.invert.walk import join, select, start

THEIRS = {
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "sgd": torch.optim.SGD,
    "sgdm": lambda params, lr: torch.optim.SGD(params, lr=lr, momentum=0.9),
}


def gradient(x: torch.Tensor) -> torch.Tensor:
    return x.sin() * x.cos() * 2  # of sin² x


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_step_is_torchs(name):
    torch.manual_seed(0)
    ours = [torch.randn(3, 4), torch.randn(2, 5, 5)]
    theirs = [x.clone().requires_grad_() for x in ours]
    optimiser, other = OPTIMISERS[name], THEIRS[name](theirs, lr=0.3)
    memory = [optimiser.begin(x) for x in ours]
    for step in range(25):
        rate = other.param_groups[0]["lr"] = 0.3 / (1 + step)
        for x, y, kept in zip(ours, theirs, memory, strict=True):
            y.grad = gradient(y.detach())
            optimiser.update(x, gradient(x), kept, [step + 1] * len(x), [rate] * len(x))
        other.step()
        assert all(torch.allclose(x, y, rtol=1e-6, atol=1e-7) for x, y in zip(ours, theirs, strict=True)), step
        assert name != "adam" or all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True)), step


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_row_has_its_own_rate_and_its_own_count(name):
    optimiser, begun = OPTIMISERS[name], torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    together, memory, alone = begun.clone(), optimiser.begin(begun), begun.clone()
    late = 5  # the last row begins so many steps after the others
    for step in range(12):
        counts, rates = [step + 1, step + 1, step + 1 - late], [0.1, 0.2, 0.3]
        here = slice(0, 3 if step >= late else 2)
        kept = [x[here] for x in memory]
        optimiser.update(together[here], gradient(together[here]), kept, counts[here], rates[here])
    for row, (steps, rate) in enumerate([(12, 0.1), (12, 0.2), (12 - late, 0.3)]):
        x = alone[row : row + 1]
        kept = optimiser.begin(x)
        for step in range(steps):
            optimiser.update(x, gradient(x), kept, [step + 1], [rate])
    torch.testing.assert_close(together, alone, rtol=0, atol=0)


def test_a_candidate_joins_and_leaves_with_all_that_it_remembers(tiny_prior):
    settings = SearchSettings(steps=4)
    walkers = start(tiny_prior, [0, 1, 2], settings)
    walkers.memory[0][1].normal_()
    walkers.best.steps += 3
    fewer = select(walkers, torch.tensor([True, False, True]))
    assert torch.equal(fewer.u, walkers.u[[0, 2]])
    assert torch.equal(fewer.memory[0][1], walkers.memory[0][1][[0, 2]])
    assert torch.equal(fewer.best.noise[-1], walkers.best.noise[-1][[0, 2]])
    more = join(fewer, start(tiny_prior, [5], settings))
    assert more.best.steps.tolist() == [3, 3, 0]
    assert not more.memory[0][1][2].any()
    assert torch.equal(more.searched[0][2:], start(tiny_prior, [5], settings).searched[0])


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
