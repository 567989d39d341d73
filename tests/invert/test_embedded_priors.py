"""Every embedded prior is searched by the same PULSE, and its saved candidates shrink to the input byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from preimage.candidates import Candidates
from preimage.files import save_png
from preimage.image import read_image
from preimage.invert.pulse import Pulse
from preimage.weights import weight_table

FACE = Path(__file__).parents[2] / "examples" / "face0.png"
PRIORS = [name for name, entry in weight_table().items() if entry.kind == "prior"]


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A face of 8x8 pixels."""
    path = tmp_path_factory.mktemp("lr") / "face.png"
    with Image.open(FACE) as face:
        face.convert("RGB").resize((8, 8), Image.Resampling.BICUBIC).save(path)
    return path


def search(prior: str, lr: Path, steps: int) -> Candidates:
    pulse = Pulse(prior=prior, preset="default", device="cpu")
    (found,) = pulse.upsample(read_image(lr).pixels, [0, 1], steps=steps)
    return found


@pytest.mark.parametrize("name", PRIORS)
def test_saved_candidates_shrink_to_the_input_byte_for_byte(name, small, tmp_path):
    found = search(name, small, steps=12)
    assert found.prior == name
    assert found.exact.all()
    start = search(name, small, steps=1)
    assert (found.error_before < start.error_before).all()  # the search comes nearer, before anything is projected
    assert (found.images[0] - found.images[1]).abs().mean() > 1 / 255
    expected = np.asarray(Image.open(small))
    for seed, picture in zip(found.seeds, found.images, strict=True):
        save_png(tmp_path / f"{seed}.png", picture)
        with Image.open(tmp_path / f"{seed}.png") as saved:
            assert saved.size == (picture.shape[-1], picture.shape[-2])
            assert torch.equal(picture.mul(255).round().byte(), torch.from_numpy(np.array(saved)).permute(2, 0, 1))
            shrunk = saved.resize((8, 8), Image.Resampling.BICUBIC)
        assert np.array_equal(np.asarray(shrunk), expected)
