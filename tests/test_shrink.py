"""The way down over files: Pillow's own bytes, seeded damage, refusals."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from preimage.cli import main
from preimage.image import read_image


def test_degrade_is_pillow_and_corruptions_are_seeded(tmp_path, capsys):
    rng = np.random.default_rng(1)
    source = tmp_path / "sharp.png"
    sharp = Image.fromarray(rng.integers(0, 256, (60, 48, 3), dtype=np.uint8))
    sharp.save(source)
    assert main(["degrade", str(source), "-o", str(tmp_path / "a"), "--scale", "4"]) == 0
    with Image.open(tmp_path / "a" / "sharp.png") as small:
        assert small.tobytes() == sharp.resize((12, 15), Image.Resampling.BICUBIC).tobytes()
    noisy = ["degrade", str(source), "--size", "15", "--corrupt", "[gaussian_noise:25,jpeg:50]", "-o"]
    for name, seed in (("b", "1"), ("c", "1"), ("d", "2")):
        assert main([*noisy, str(tmp_path / name), "--seed", seed]) == 0
    b, c, d = (read_image(tmp_path / n / "sharp.png").pixels for n in "bcd")
    assert torch.equal(b, c)
    assert not torch.equal(b, d)
    sharp.save(tmp_path / "twin.png")
    assert main(["degrade", str(tmp_path / "twin.png"), *noisy[2:], str(tmp_path / "f"), "--seed", "1"]) == 0
    assert not torch.equal(b, read_image(tmp_path / "f" / "twin.png").pixels)  # every picture its own noise
    for wrong in (["--size", "0"], ["--scale", "0"]):
        assert main(["degrade", str(source), "-o", str(tmp_path / "g"), *wrong]) == 1
    assert main([*noisy, str(tmp_path / "b")]) == 1
    assert "exists" in capsys.readouterr().err
    assert main(["degrade", str(source), "-o", str(tmp_path / "e"), "--scale", "2", "--size", "9"]) == 1
    assert main(["degrade", str(source), "-o", str(tmp_path / "e"), "--corrupt", "[rust]"]) == 1
    assert "there is no corruption 'rust'" in capsys.readouterr().err
