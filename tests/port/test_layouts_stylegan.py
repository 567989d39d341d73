"""StyleGAN in lernapparat's layout: random networks written so come back as the same pictures; what does not fit is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from preimage.cli import main
from preimage.errors import WeightsError
from preimage.generate.stylegan import StyleGAN, StyleGANConfig
from preimage.port.convert import convert_prior
from preimage.port.layout import Settings
from preimage.port.layouts_stylegan import LAYOUTS
from preimage.weight_files import sha256
from preimage.weights import load_prior

(LAYOUT,) = LAYOUTS
CONFIG = StyleGANConfig(resolution=16, channel_base=128, channel_max=12, z_dim=10, w_dim=14, mapping_layers=3)
NARROW = StyleGANConfig(resolution=8, channel_base=64, channel_max=8, z_dim=6, w_dim=6, mapping_layers=1)


@pytest.fixture(autouse=True)
def short_fit(monkeypatch):
    """The mean latent is estimated from as many latents as ever, the Gaussian fit from fewer."""
    whole = StyleGAN.refit
    monkeypatch.setattr(StyleGAN, "refit", lambda self, samples=2_000: whole(self, samples))


def write(prior: StyleGAN, noise: str = "noise.weight") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The two halves as the published files hold them: mapping and synthesis."""
    state = prior.state_dict()
    mapping = {k.replace("mapping.fc", "dense"): v for k, v in state.items() if k.startswith("mapping.fc")}
    synthesis = {"blocks.4x4.const": state["synthesis.b4.const"][None]}
    for side in prior.config.resolutions:
        for k, conv in enumerate(("conv0_up", "conv1") if side > 4 else ("", "conv")):
            ours, theirs = f"synthesis.b{side}.layer{k}", f"blocks.{side}x{side}"
            synthesis[f"{theirs}.{conv}.bias" if conv else f"{theirs}.bias"] = state[f"{ours}.bias"]
            if conv:
                synthesis[f"{theirs}.{conv}.weight"] = state[f"{ours}.weight"]
            if conv == "conv0_up":
                synthesis[f"{theirs}.{conv}.intermediate.kernel"] = (
                    torch.tensor([[[[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]]]) / 16
                )
            synthesis[f"{theirs}.epi{k + 1}.{noise}"] = state[f"{ours}.noise_strength"]
            for part in ("weight", "bias"):
                synthesis[f"{theirs}.epi{k + 1}.style_mod.lin.{part}"] = state[f"{ours}.affine.{part}"]
    synthesis |= {f"torgb.{part}": state[f"synthesis.torgb.{part}"] for part in ("weight", "bias")}
    return mapping, synthesis


def joined(**halves: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{k}": v for name, half in halves.items() for k, v in half.items()}


def one_file(mapping: dict[str, Tensor], synthesis: dict[str, Tensor]) -> dict[str, Tensor]:
    return joined(g_mapping=mapping, g_synthesis=synthesis)


def two_halves(mapping: dict[str, Tensor], synthesis: dict[str, Tensor]) -> dict[str, Tensor]:
    return joined(mapping=mapping, synthesis=synthesis)


def merged(mapping: dict[str, Tensor], synthesis: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**mapping, **synthesis}


@pytest.mark.parametrize(
    ("config", "form", "noise"),
    [
        (CONFIG, one_file, "top_epi.noise.weight"),  # lernapparat
        (CONFIG, two_halves, "noise.weight"),  # PULSE
        (NARROW, merged, "noise.weight"),
    ],
    ids=["lernapparat", "PULSE", "merged"],
)
def test_round_trip(random_style_prior, config: StyleGANConfig, form: Callable, noise: str):
    prior = random_style_prior(config)
    state = form(*write(prior, noise))
    assert LAYOUT.matches(state)
    ported = LAYOUT.port(state)
    assert ported.architecture == "stylegan"
    assert "estimated" in ported.notes[0]
    again = StyleGAN(StyleGANConfig(**ported.config), "again").requires_grad_(False)
    again.load_state_dict(ported.state)
    assert again.config.rows == config.rows
    assert {s: again.config.channels(s) for s in config.resolutions} == {
        s: config.channels(s) for s in config.resolutions
    }
    assert torch.allclose(again.sample([0, 1]), prior.sample([0, 1]), atol=1e-4)  # from z, with noise
    assert torch.allclose(again.sample([0, 1], 0.5), prior.sample([0, 1], 0.5), atol=1e-4)  # so w_avg is the same
    ws = torch.randn(2, *prior.latent_shape)
    assert torch.allclose(again.synthesize(ws), prior.synthesize(ws), atol=1e-4)  # from W+
    assert torch.allclose(again.gaussian_fit[1], prior.gaussian_fit[1])


def test_half_precision_is_taken_too(random_style_prior):
    prior = random_style_prior(NARROW)
    ported = LAYOUT.port({k: v.half() for k, v in one_file(*write(prior)).items()})
    assert all(v.dtype == torch.float32 for v in ported.state.values())


def test_what_is_laid_out_otherwise_does_not_match(random_style_prior):
    ours = random_style_prior(NARROW).state_dict()
    assert not LAYOUT.matches(ours)
    assert not LAYOUT.matches({})
    assert not LAYOUT.matches({"g_ema.style.1.weight": torch.zeros(1), "g_ema.conv1.conv.weight": torch.zeros(1)})
    assert not LAYOUT.matches({"dense0.weight": torch.zeros(1), "classifier.weight": torch.zeros(1)})


def test_one_half_alone_says_what_to_do(random_style_prior):
    mapping, synthesis = write(random_style_prior(NARROW))
    for half, message in ((mapping, "only the mapping half"), (synthesis, "only the synthesis half")):
        assert LAYOUT.matches(half)
        with pytest.raises(WeightsError, match=rf"{message}.*mapping\.pt and synthesis\.pt"):
            LAYOUT.port(half)


def test_two_files_become_one_prior(tiny_stylegan, tmp_path, capsys):
    for name, half in zip(("mapping", "synthesis"), write(tiny_stylegan), strict=True):
        torch.save({k: v.contiguous() for k, v in half.items()}, tmp_path / f"{name}.pt")
    mapping, synthesis, out = (tmp_path / name for name in ("mapping.pt", "synthesis.pt", "ours.safetensors"))
    command = ["models", "convert", str(synthesis), "--mapping", str(mapping), "-o", str(out), "--precision", "fp32"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    for said in ("lernapparat StyleGAN", "name: ours", "source: synthesis.pt", "mapping: mapping.pt", sha256(mapping)):
        assert said in printed
    pictures = load_prior(out).sample([0, 1])
    assert torch.allclose(pictures, tiny_stylegan.sample([0, 1]), atol=1e-5)
    assert torch.allclose(load_prior(out).gaussian_fit[1], tiny_stylegan.gaussian_fit[1])
    swapped = load_prior(convert_prior(mapping, out, mapping=synthesis, half=False))
    assert torch.equal(swapped.sample([0, 1]), pictures)


def test_two_files_that_are_no_pair(tiny_stylegan, tmp_path):
    mapping, synthesis = write(tiny_stylegan)
    torch.save(synthesis, tmp_path / "synthesis.pt")
    torch.save(two_halves(mapping, synthesis), tmp_path / "whole.pt")
    out = tmp_path / "ours.safetensors"
    for second, message in (
        ("synthesis.pt", r"synthesis\.pt with .*several StyleGAN networks"),
        ("whole.pt", r"several StyleGAN networks"),
        ("missing.pt", r"missing\.pt: no such file"),
    ):
        with pytest.raises(WeightsError, match=message):
            convert_prior(tmp_path / "synthesis.pt", out, mapping=tmp_path / second)
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other\.pt: holds only the synthesis half"):
        convert_prior(tmp_path / "synthesis.pt", out, mapping=tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"synthesis\.pt: would be replaced by its own conversion"):
        convert_prior(tmp_path / "whole.pt", tmp_path / "synthesis.pt", mapping=tmp_path / "synthesis.pt")
    assert not out.exists()


S = "g_synthesis."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop(f"{S}blocks.8x8.conv1.weight"),
            r"do not fit together: synthesis\.b8\.layer1\.weight is missing\..*incomplete",
        ),
        (lambda s: s.pop(f"{S}torgb.weight"), r"do not fit together: torgb\.weight is missing"),
        (lambda s: s.pop("g_mapping.dense1.bias"), r"do not fit together: mapping\.fc1\.bias is missing"),
        (lambda s: s.pop("g_mapping.dense2.weight"), r"do not fit together: mapping\.fc2\.bias has no place"),
        (
            lambda s: s.update({f"{S}blocks.8x8.conv1.weight": torch.zeros(3)}),
            r"together: synthesis\.b8\.layer1\.weight is 3, where 12x12x3x3 belongs",
        ),
        (
            lambda s: s.update({"g_mapping.dense0.weight": torch.zeros(3)}),
            r"do not fit together: dense0\.weight is 3\.",
        ),
        (lambda s: s.update({f"{S}blocks.8x8.extra": torch.zeros(1)}), r"holds blocks\.8x8\.extra, which no"),
        (lambda s: s.update({f"{S}torgb.weight": torch.zeros(1, 8, 1, 1)}), "1 channels; a prior needs 3"),
        (
            lambda s: s.update({"b.blocks.4x4.const": torch.zeros(1)}),
            r"several StyleGAN networks \(g_synthesis\., b\.\)",
        ),
        (
            lambda s: s.update({f"{S}blocks.8x8.conv0_up.intermediate.kernel": torch.ones(1, 1, 4, 4)}),
            "another filter",
        ),
        (lambda s: [s.pop(k) for k in list(s) if "8x8" in k], r"sides \[4, 16\].*without a gap"),
        (
            lambda s: s.update({f"{S}blocks.8x8.epi2.style_mod.lin.bias": torch.zeros(10)}),
            r"widths \[12, 5, 8\]",
        ),
    ],
)
def test_what_does_not_fit_is_named(tiny_stylegan, change, message):
    state = one_file(*write(tiny_stylegan))
    change(state)
    with pytest.raises(WeightsError, match=message) as caught:
        LAYOUT.port(state)
    assert len(str(caught.value).splitlines()) == 1


def test_a_mapping_rate_is_not_for_this_layout(tiny_stylegan):
    with pytest.raises(WeightsError, match="lernapparat StyleGAN, which --lr-mlp is not for"):
        LAYOUT.port(one_file(*write(tiny_stylegan)), Settings(lr_mlp=0.1))
