"""What stands behind a tiny generator: which networks, the photos that they take, what was looked through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from preimage.declaration import Declaration
from preimage.degrade.linear import make_operator
from preimage.errors import RecipeError, WeightsError
from preimage.generate.stylegan2 import StyleGAN2Config
from preimage.nets.conditional import ConditionalConfig, ConditionalGenerator
from preimage.train.data import load_pictures, to_tensor
from preimage.train.second import load_real, load_second, together
from preimage.weight_files import save_prior


@dataclass(frozen=True)
class Tiny:
    data: list[str]
    generator: StyleGAN2Config
    second: str | None


@pytest.fixture
def recipe(tmp_path, faces) -> Tiny:
    config = ConditionalConfig(resolution=32, width=8, channels=(4,), w_dim=6, z_outline=2, z_detail=2)
    save_prior(tmp_path / "posterior.safetensors", ConditionalGenerator(config), {})
    return Tiny([str(faces)], StyleGAN2Config(16, 128, 8, 8, 8, 2), str(tmp_path / "posterior.safetensors"))


def test_learns_from_what_the_second_network_takes(recipe, faces):
    """Large faces, shrunk by its own downscaling, on the 8-bit grid."""
    large, real = load_pictures([str(faces)], 32, progress=False), load_real(recipe, load_second(recipe), False)
    shrunk = make_operator("bicubic", hr_size=32, lr_size=16)(to_tensor(np.array(large))).clamp(0, 1)
    assert (real.shape, real.dtype) == ((len(large), 16, 16, 3), np.uint8)
    assert (to_tensor(real) - shrunk).abs().max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(load_real(recipe, None, False), load_pictures([str(faces)], 16, progress=False))


def test_refuses_other_networks_and_those_that_do_not_enlarge(recipe):
    assert load_second(Tiny(recipe.data, recipe.generator, None)) is None
    for side, second in ((16, "ssrvae-64-b"), (32, recipe.second)):
        wrong = Tiny(recipe.data, StyleGAN2Config(side, 128, 8, 8, 8, 2), second)
        with pytest.raises((RecipeError, WeightsError), match=r"posterior"):
            load_second(wrong)


def test_both_have_looked_through_what_either_has():
    assert together(("a",), None) is None
    assert together(("a",), Declaration("upsampler", looked_through=None)) is None
    assert together(("a",), Declaration("upsampler", looked_through=("b", "a"))) == ("a", "b")
    assert together((), Declaration("upsampler", looked_through=())) == ()
