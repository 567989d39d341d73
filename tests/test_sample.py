"""Samples of a prior: separate files that say where they come from, a sheet, one seed one picture, truncation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from preimage import sample as module
from preimage.cli import main
from preimage.errors import InputError, MethodError, OutputError, WeightsError
from preimage.files import read_provenance, save_png
from preimage.image import read_image, to_uint8
from preimage.sample import sample_prior
from preimage.weight_files import save_prior


def pixels(path):
    return (read_image(path).pixels * 255).round().to(torch.uint8)


def test_a_folder_of_pictures_with_their_provenance_and_a_sheet(tiny_prior, tmp_path):
    written = sample_prior(tmp_path / "out", "3,0-1", prior=tiny_prior, device="cpu")
    assert [p.name for p in written] == ["seed0003.png", "seed0000.png", "seed0001.png", "sheet.png"]
    for path, seed, picture in zip(written, (3, 0, 1), to_uint8(tiny_prior.sample([3, 0, 1])), strict=False):
        assert torch.equal(pixels(path), picture)
        about = read_provenance(path)
        assert (about["seed"], about["prior"], about["truncation"]) == (str(seed), "tiny", "1")
        assert "nobody's photo" in about["Comment"]
        assert len(about["prior_sha256"]) == 16
    assert read_provenance(written[-1])["seeds"] == "3,0,1"
    sheet = pixels(written[-1])
    # pictures stand enlarged by nearest neighbour, so their colours are on the sheet, in order
    enlarged = pixels(written[0]).repeat_interleave(8, 1).repeat_interleave(8, 2)
    assert torch.equal(sheet[:, 8 : 8 + 128, 8 : 8 + 128], enlarged)


def test_same_seed_same_picture_for_any_batch_size(tiny_prior, tmp_path):
    for batch in (1, 2, 8):
        sample_prior(tmp_path / str(batch), "0-4", prior=tiny_prior, batch=batch, device="cpu", sheet=False)
    for seed in range(5):
        one, two, all_ = (pixels(tmp_path / b / f"seed{seed:04d}.png").int() for b in ("1", "2", "8"))
        assert (one - all_).abs().max() <= 1  # float rounding may flip a grey level
        assert (two - all_).abs().max() <= 1
    assert not (tmp_path / "1" / "sheet.png").exists()
    assert (pixels(tmp_path / "8" / "seed0000.png").int() - pixels(tmp_path / "8" / "seed0001.png")).abs().max() > 9


def test_truncation_zero_is_the_mean_face_for_every_seed(tiny_prior, tmp_path):
    quiet = [torch.zeros_like(m) for m in tiny_prior.noise([0])]
    mean = tiny_prior.mean_latent.expand(1, *tiny_prior.latent_shape)
    spread = {}
    for truncation in (0.0, 0.5, 1.0):
        out = tmp_path / str(truncation)
        sample_prior(out, "0-3", prior=Quiet(tiny_prior), truncation=truncation, device="cpu", sheet=False)
        pictures = torch.stack([pixels(out / f"seed{s:04d}.png") for s in range(4)]).float()
        spread[truncation] = float(pictures.std(dim=0).mean())
        if truncation == 0:
            expected = to_uint8(tiny_prior.synthesize(mean, quiet).clamp(0, 1))
            assert (pictures - expected).abs().max() <= 1
    assert spread[0.0] < 0.01 < spread[0.5] < spread[1.0]


class Quiet(nn.Module):
    """The same prior without its noise, which truncation leaves alone."""

    def __init__(self, prior):
        super().__init__()
        self.inner = prior

    def __getattr__(self, name):
        if name in ("inner", "training") or name.startswith("_"):
            return super().__getattr__(name)
        return getattr(self.inner, name)

    def sample(self, seeds, truncation=1.0):
        return self.inner.synthesize(self.inner.latents(seeds, truncation)).clamp(0, 1)


def test_a_file_holds_the_sheet_or_a_single_picture(tiny_prior, tmp_path):
    assert sample_prior(tmp_path / "faces.png", "0-9", prior=tiny_prior, device="cpu") == [tmp_path / "faces.png"]
    assert pixels(tmp_path / "faces.png").shape[2] > 8 * 128  # eight in a row
    sample_prior(tmp_path / "one.PNG", 4, prior=tiny_prior, device="cpu", sheet=False)
    assert torch.equal(pixels(tmp_path / "one.PNG"), to_uint8(tiny_prior.sample([4])[0]))
    with pytest.raises(InputError, match=r"many\.png: one file cannot hold 2 pictures"):
        sample_prior(tmp_path / "many.png", "0-1", prior=tiny_prior, device="cpu", sheet=False)


def test_a_long_sheet_shows_the_first_seeds(tiny_prior, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHEET_LIMIT", 2)
    written = sample_prior(tmp_path, "7-9", prior=tiny_prior, device="cpu")
    assert len(written) == 4
    assert read_provenance(tmp_path / "sheet.png")["seeds"] == "7,8"
    sample_prior(tmp_path / "alone.png", "7-9", prior=tiny_prior, device="cpu")
    assert torch.equal(pixels(tmp_path / "alone.png"), pixels(tmp_path / "sheet.png"))


def test_what_is_there_is_replaced_by_itself_only(tiny_prior, tmp_path):
    sample_prior(tmp_path, "0", prior=tiny_prior, device="cpu")
    sample_prior(tmp_path, "0-1", prior=tiny_prior, device="cpu")
    assert read_provenance(tmp_path / "sheet.png")["seeds"] == "0,1"
    with pytest.raises(OutputError, match=r"seed0000\.png is there already, and not by this prior and truncation"):
        sample_prior(tmp_path, "0", prior=tiny_prior, truncation=0.7, device="cpu")
    save_png(tmp_path / "portrait.png", torch.zeros(3, 4, 4))
    with pytest.raises(OutputError, match=r"portrait\.png is there already"):
        sample_prior(tmp_path / "portrait.png", "0", prior=tiny_prior, device="cpu")
    assert not pixels(tmp_path / "portrait.png").any()


class Broken(Quiet):
    def sample(self, seeds, truncation=1.0):
        return torch.full((len(seeds), 3, 16, 16), float("nan"))


def test_what_cannot_work_says_so(tiny_prior, tmp_path):
    for wrong, message in (
        ({"truncation": float("nan")}, "truncation .* finite"),
        ({"seeds": "7-0"}, "runs backwards"),
        ({"prior": nn.Linear(1, 1)}, "a Linear is no prior"),
    ):
        with pytest.raises(InputError, match=message):
            sample_prior(tmp_path / "o", **{"seeds": "0", "prior": tiny_prior, "device": "cpu", **wrong})
    with pytest.raises(MethodError, match=r"batch \(0\) must be"):
        sample_prior(tmp_path / "o", "0", prior=tiny_prior, device="cpu", batch=0)
    with pytest.raises(WeightsError, match="NaN or infinity for seeds 0 to 1"):
        sample_prior(tmp_path / "o", "0-1", prior=Broken(tiny_prior), device="cpu")
    assert not (tmp_path / "o").exists()


def test_the_command(tiny_prior, tmp_path, capsys):
    save_prior(tmp_path / "tiny.safetensors", tiny_prior, {})
    command = ["sample", "--prior", str(tmp_path / "tiny.safetensors"), "--device", "cpu", "--seeds", "0-1", "-o"]
    assert main([*command, str(tmp_path / "a"), "--truncation", "0.7"]) == 0
    assert "3 pictures written" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"seed0000.png", "seed0001.png", "sheet.png"}
    assert read_provenance(tmp_path / "a" / "seed0001.png")["truncation"] == "0.7"
    assert main([*command, str(tmp_path / "b"), "--no-sheet"]) == 0
    assert {p.name for p in (tmp_path / "b").iterdir()} == {"seed0000.png", "seed0001.png"}
    assert main([*command, str(tmp_path / "a")]) == 1
    assert "not by this prior and truncation" in capsys.readouterr().err
    assert main(["sample", "--prior", "nothing", "-o", str(tmp_path / "c")]) == 1
    assert "neither an embedded prior" in capsys.readouterr().err
