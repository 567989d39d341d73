"""Tensors and numpy arrays as pictures: one shape and range out of many, and a hint for every other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from preimage.arrays import array_size, array_values
from preimage.errors import InputError


@pytest.mark.parametrize(
    "x",
    [
        torch.ones(3, 2, 5),
        torch.ones(1, 3, 2, 5).double(),
        torch.full((3, 2, 5), 255, dtype=torch.uint8),
        np.ones((2, 5, 3)),
        np.full((1, 2, 5, 3), 255, np.uint8),
        np.ones((3, 2, 5), ">f4"),
    ],
)
def test_forms_of_one_picture(x):
    assert torch.equal(array_values(x, "x"), torch.ones(3, 2, 5))
    assert array_size(x) == (5, 2)


@pytest.mark.parametrize("x", [torch.ones(2, 5), torch.ones(1, 2, 5), np.ones((2, 5)), np.ones((2, 5, 1))])
def test_grey_keeps_one_channel(x):
    assert array_values(x, "x").shape == (1, 2, 5)
    assert array_size(x) == (5, 2)


@pytest.mark.parametrize("x", [None, [[0.0]], torch.zeros(5), torch.zeros(2, 3, 4, 4), torch.zeros(3, 0, 4)])
def test_what_has_no_size(x):
    assert array_size(x) is None


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.full((3, 2, 2), torch.nan), "holds NaN or infinity"),
        (np.full((2, 2, 3), np.inf), "holds NaN or infinity"),
        (torch.full((3, 2, 2), 200.0), "200 to 200.*looks like 0 to 255: divide by 255"),
        (torch.linspace(-1, 1, 12).reshape(3, 2, 2), r"looks like \[-1, 1\]: use \(x \+ 1\) / 2"),
        (torch.linspace(0, 1.05, 12).reshape(3, 2, 2), r"clamp\(0, 1\)"),
        (torch.zeros(3, 2, 2, dtype=torch.int64), "holds torch.int64; convert to uint8"),
        (np.zeros((2, 2, 3), bool), "holds bool; convert to uint8"),
        (np.zeros((2, 2, 3), object), "holds object"),
        (torch.zeros(2, 3, 4, 4), "a batch of 2; give one picture at a time"),
        (torch.zeros(3, 0, 4), "holds no pixels"),
        (torch.zeros(5), r"shape \(5,\) is not a picture; give \(3, h, w\)"),
        (torch.zeros(4, 8, 8), "drop the alpha channel"),
        (np.zeros((8, 8, 4), np.uint8), "drop the alpha channel"),
        (torch.zeros(8, 8, 3), r"x.permute\(2, 0, 1\)"),
    ],
)
def test_what_is_refused(x, message):
    with pytest.raises(InputError, match=f"^lr: .*{message}"):
        array_values(x, "lr")
