"""ssrvae: one answer for photos of any size, exact where the degradation is linear, with its L1 where it is learned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import preimage
from preimage.cli import main
from preimage.degrade.linear import bicubic
from preimage.degrade.style_vae import StyleVAE, StyleVAEConfig
from preimage.errors import MethodError, OperatorError, PreimageError, WeightsError
from preimage.invert.registry import load
from preimage.invert.ssrvae import SSRVAE
from preimage.nets.attention import AttentionConfig, AttentionNetwork
from preimage.nets.baselines import EDSR, EDSRConfig
from preimage.weight_files import save_prior
from preimage.weights import weight_table

TINY = AttentionConfig(width=8, global_blocks=1, local_blocks=1, lr_size=8, local_window=3)


@pytest.fixture(scope="module")
def network() -> AttentionNetwork:
    torch.manual_seed(0)
    made = AttentionNetwork(TINY, "tiny")
    with torch.no_grad():
        for p in made.parameters():
            if not p.any():
                p.normal_(std=0.2)
    return made.eval()


@pytest.fixture(scope="module")
def file(network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("networks") / "tiny.safetensors"
    save_prior(path, network, {}, dtype=torch.float32)
    return path


def photo(side: int) -> torch.Tensor:
    faces = torch.rand(1, 3, 4 * side, 4 * side, generator=torch.Generator().manual_seed(side)) * 0.5 + 0.25
    return (bicubic(4 * side, lr_size=side)(faces)[0].clamp(0, 1) * 255).round() / 255


@pytest.mark.parametrize("side", [8, 5, 12])
@pytest.mark.parametrize("degradation", [None, "area", "bicubic"])
def test_one_exact_answer_for_photos_of_any_size(network, side, degradation):
    method = SSRVAE(weights=network, device="cpu")
    assert (method.resolution, method.resolution_for(side)) == (32, 4 * side)
    (found,) = method.upsample(photo(side), [3, 4], degradation)
    assert found.images.shape == (1, 3, 4 * side, 4 * side)
    assert (found.seeds, found.method, found.prior) == ((3,), "ssrvae", "tiny")
    assert bool(found.exact.all())
    assert preimage.upsample(photo(side), 7, method=method).images.shape[-1] == 4 * side


def test_the_answer_is_the_networks_before_it_is_made_exact(network):
    lr = photo(8)
    (found,) = SSRVAE(weights=network, device="cpu").upsample(lr, [0])
    with torch.no_grad():
        made = network(lr[None])
    error = 255 * (bicubic(32, lr_size=8)(made) - lr).square().mean().sqrt()
    assert float(found.error_before) == pytest.approx(float(error), rel=1e-3)
    assert float(found.moved) > 0


def test_a_learned_degradation_proves_nothing_and_has_its_l1(network):
    torch.manual_seed(0)
    style = StyleVAE(StyleVAEConfig(16, 8, 5, 6, 1, 1), "style").eval()
    (found,) = SSRVAE(weights=network, device="cpu").upsample(photo(8), [0], style)
    assert found.l1 is not None
    assert not found.exact.any()
    with torch.no_grad():
        made = (network(photo(8)[None]).clamp(0, 1) * 255).round() / 255
    assert torch.equal(found.images, made)
    with pytest.raises(OperatorError, match="makes 8x8 pictures"):
        SSRVAE(weights=network, device="cpu").upsample(photo(5), [0], style)


def test_baselines_answer_too(tmp_path):
    save_prior(tmp_path / "x.safetensors", EDSR(EDSRConfig(scale=2, lr_size=8, width=4, blocks=1), "edsr"), {})
    (found,) = load("ssrvae", weights=str(tmp_path / "x.safetensors")).upsample(photo(6), [0])
    assert found.images.shape[-1] == 12
    assert bool(found.exact.all())


def test_networks_of_others_are_refused(tiny_prior):
    with pytest.raises(MethodError, match="ConditionalGenerator is no network of ssrvae"):
        load("ssrvae", weights="posterior-16to128")
    with pytest.raises(MethodError, match="give its own network as weights"):
        load("ssrvae", prior="faces64")
    if not any(e.kind == "upsampler" and n.startswith("ssrvae") for n, e in weight_table().items()):
        with pytest.raises(WeightsError, match=r"no network of ssrvae is embedded\. Give the path of one"):
            load("ssrvae")


def test_posterior_refuses_its_networks(file):
    with pytest.raises(PreimageError, match="AttentionNetwork"):
        load("posterior", weights=str(file))


def test_the_command_line_end_to_end(file, tmp_path, capsys):
    for side in (8, 6):
        pixels = (photo(side) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / f"p{side}.png")
    out = tmp_path / "out"
    command = ["upsample", str(tmp_path / "p8.png"), str(tmp_path / "p6.png"), "--method", "ssrvae"]
    command += ["--weights", str(file), "-o", str(out), "--threads", "1"]
    assert main(command) == 0
    assert "2 candidates written" in capsys.readouterr().out
    assert main(command) == 0  # nothing left to do
    assert "2 were there before" in capsys.readouterr().out
    assert {Image.open(p).size for p in out.glob("*/seed*.png")} == {(32, 32), (24, 24)}
    assert main(["verify", str(out)]) == 0
    assert "2 of 2 candidates shrink to their input byte for byte" in capsys.readouterr().out
    assert main([*command[:2], *command[3:], "--scale", "2", "--overwrite"]) == 1
    assert "leave out the scale" in capsys.readouterr().err.lower()
