"""What a method is asked."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

import preimage
from preimage.cli import main
from preimage.errors import OperatorError
from preimage.files import save_png
from preimage.image import read_image, to_uint8
from preimage.invert.problem import reduce
from preimage.weight_files import save_prior


def test_soft_photos_are_reduced_first(tiny_prior, tmp_path, capsys):
    large = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0))
    large = (large * 100 + 80).round() / 255
    wanted = Image.fromarray(to_uint8(large).permute(1, 2, 0).numpy()).resize((4, 4), Image.Resampling.BOX)
    assert reduce(large, 4).mul(255).byte().permute(1, 2, 0).numpy().tobytes() == wanted.tobytes()
    assert reduce(large, 12) is large
    assert reduce(large, None) is large
    assert reduce(torch.rand(3, 20, 10), 8).shape == (3, 8, 4)
    with pytest.raises(OperatorError, match=r"reduce \(0\) must be a number of pixels"):
        reduce(large, 0)
    found = preimage.upsample(large, 0, method="pulse", prior=tiny_prior, steps=3, reduce=4)
    assert torch.equal(found.lr, reduce(large, 4))
    assert bool(found.exact.all())
    save_prior(tmp_path / "tiny.safetensors", tiny_prior, {})
    save_png(tmp_path / "soft.png", torch.rand(3, 40, 40))  # larger than what the prior makes
    command = ["upsample", str(tmp_path / "soft.png"), "-o", str(tmp_path / "out"), "--method", "bicubic", "--prior"]
    command += [str(tmp_path / "tiny.safetensors")]
    assert main([*command, "--reduce", "5"]) == 0
    assert "reduced to 5x5 pixels" in capsys.readouterr().err
    assert read_image(tmp_path / "out" / "soft" / "input.png").pixels.shape == (3, 5, 5)
    assert main(["verify", str(tmp_path / "out")]) == 0
    assert main([*command, "--reduce", "6"]) == 1
    assert "other settings (reduce differ)" in capsys.readouterr().err
