"""Edits of candidates: what may be asked, exactness afterwards, sliders, provenance, files of directions."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

import preimage
from preimage import weights
from preimage.candidates import Candidates
from preimage.cli import main
from preimage.degrade.consistency import downscale_saved
from preimage.degrade.linear import bicubic
from preimage.errors import InputError, MethodError, WeightsError
from preimage.files import read_provenance, read_yaml, save_png
from preimage.generate.directions import directions, in_deviations, sample_latents
from preimage.image import to_uint8
from preimage.invert.editing import edit_text, parse_edit
from preimage.invert.nam import SRNAM
from preimage.invert.pulse import Pulse
from preimage.session import Session
from preimage.weight_files import save_prior, sha256
from preimage.weights import WeightEntry, load_network

QUICK = {"steps": 8, "stop": 0.0}


@pytest.fixture(scope="module")
def own(tiny_prior):
    """Two random directions of the tiny prior, one standard deviation long."""
    latents = sample_latents(tiny_prior, range(200))
    vectors = torch.randn(2, 1, 16, generator=torch.Generator().manual_seed(5)).expand(-1, 6, -1)
    return directions(["age", "smile"], in_deviations(vectors, latents), "labels", "own")


@pytest.fixture(scope="module")
def file(own, tiny_prior, tmp_path_factory):
    path = tmp_path_factory.mktemp("directions") / "own.safetensors"
    save_prior(path, own, {}, bound_to=tiny_prior, dtype=torch.float32)
    return path


# ------------------------------------------------------------------------------------------------------------- asking


def test_an_edit_reads_the_same_as_text_and_as_mapping():
    assert parse_edit("smile=1.5, age=-1") == {"smile": 1.5, "age": -1.0} == parse_edit({"smile": 1.5, "age": -1})
    assert parse_edit("") == {}
    assert parse_edit("age=1,age=2") == {"age": 2.0}
    assert edit_text(parse_edit("smile=1.50,hair=0,age=-1")) == "smile=1.5,age=-1"


@pytest.mark.parametrize("wrong", ["age", "age=", "=1", "age=old", "age=9", "age=nan", {"age": True}, {"age": None}])
def test_what_is_no_edit_is_refused(wrong):
    with pytest.raises(MethodError, match="edit"):
        parse_edit(wrong)


def test_unknown_names_are_refused_before_anything_is_searched(tiny_prior, tiny_lr, own):
    pulse = Pulse(prior=tiny_prior, device="cpu")
    with pytest.raises(MethodError, match="no directions are embedded for tiny"):
        pulse.upsample(tiny_lr, [0], edit={"age": 1})
    for units in (1, 0):
        with pytest.raises(MethodError, match="no direction hair; there are age, smile"):
            pulse.upsample(tiny_lr, [0], edit={"hair": units}, directions=own)
    with pytest.raises(MethodError, match="unknown control edit"):
        preimage.load("bicubic", resolution=16).configure({"edit": {"age": 1}})


def test_directions_of_another_prior_are_refused(tiny_stylegan, file):
    with pytest.raises(WeightsError, match="belongs to the prior tiny"):
        Pulse(prior=tiny_stylegan, device="cpu").configure({"directions": str(file)})


# ------------------------------------------------------------------------------------------------------------ editing


@pytest.mark.parametrize("method", [Pulse, SRNAM])
def test_an_edited_candidate_is_moved_so_far_and_stays_exact(method, tiny_prior, tiny_lr, own):
    made = method(prior=tiny_prior, device="cpu")
    plain, edited, nothing = (
        Candidates.cat(list(made.upsample(tiny_lr, [0, 1], degradation="bicubic", directions=own, edit=edit, **QUICK)))
        for edit in ({}, {"age": 1.5}, {"age": 0})
    )
    assert torch.equal(plain.images, nothing.images)
    assert (plain.edit, nothing.edit, edited.edit) == ("", "", "age=1.5")
    torch.testing.assert_close(edited.latents["latents"], plain.latents["latents"] + 1.5 * own.vectors[0])
    assert edited.exact.all()
    shrunk = downscale_saved(to_uint8(edited.images), bicubic(16, lr_size=4))
    assert torch.equal(shrunk, to_uint8(tiny_lr).expand(2, -1, -1, -1))
    assert (edited.images - plain.images).abs().mean() > 1e-3
    assert (edited.error_before > plain.error_before).all()  # the edit is not of the photo's doing, and says so
    with pytest.raises(InputError, match="different edit"):
        Candidates.cat([plain, edited])


def test_sliders_say_where_a_candidate_stands(tiny_prior, tiny_lr, own):
    session = Session(Pulse(prior=tiny_prior, device="cpu"))
    assert [handle.name for handle in session.method.handles] == ["noise"]
    session.configure({"directions": own, **QUICK})
    assert {h.name: h.kind for h in session.method.handles} == {"noise": "reseed", "age": "slider", "smile": "slider"}
    session.pose(tiny_lr)
    list(session.more([3]))
    older = session.steer(0, {"age": 2.0})
    assert older.edit == "age=2"
    assert older.exact.all()
    both = session.method.steer(older, 0, {"smile": -1})
    assert both.edit == "age=2,smile=-1"
    back = session.method.steer(both, 0, {"age": 0, "smile": 0.0})
    assert back.edit == ""
    torch.testing.assert_close(back.latents["latents"], session.candidates[0].latents["latents"], atol=1e-5, rtol=1e-5)
    with pytest.raises(MethodError, match=r"age \(9\) must lie in \[-5, 5\]"):
        session.steer(0, {"age": 9})


def test_a_file_is_named_once(tiny_prior, tiny_lr, own, file):
    pulse = Pulse(prior=tiny_prior, device="cpu")
    (by_file,) = pulse.upsample(tiny_lr, [0], directions=str(file), edit="smile=1", **QUICK)
    (by_module,) = pulse.upsample(tiny_lr, [0], directions=own, edit="smile=1", **QUICK)
    assert torch.equal(by_file.images, by_module.images)
    settings = pulse.configure({"directions": str(file), "edit": "smile=1"})
    about = pulse.describe(settings)
    assert about["edit"] == "smile=1"
    assert len(about["directions_sha256"]) == 16
    assert "directions_sha256" not in pulse.describe()


def test_embedded_directions_serve_the_prior_that_they_belong_to(tiny_prior, tiny_stylegan, tiny_lr, file, monkeypatch):
    entry = WeightEntry("own", str(file), "directions", sha256(file), "", "", "", 0)
    monkeypatch.setattr(weights, "weight_table", lambda: {"own": entry})
    pulse = Pulse(prior=tiny_prior, device="cpu")
    assert [handle.name for handle in pulse.handles] == ["noise", "age", "smile"]
    (found,) = pulse.upsample(tiny_lr, [0], edit="age=1", **QUICK)
    assert found.edit == "age=1"
    assert pulse.configure({"directions": "own"}).directions == "own"
    other = Pulse(prior=tiny_stylegan, device="cpu")
    assert [handle.name for handle in other.handles] == ["noise"]
    assert load_network("own", "directions").names == ("age", "smile")


# --------------------------------------------------------------------------------------------------------- command line


def test_the_command_edits_proves_and_records(tiny_prior, tiny_lr, file, tmp_path, capsys):
    save_prior(tmp_path / "tiny.safetensors", tiny_prior, {}, dtype=torch.float32)
    save_png(tmp_path / "face.png", tiny_lr)
    out, prior = tmp_path / "out", str(tmp_path / "tiny.safetensors")
    command = ["upsample", str(tmp_path / "face.png"), "-o", str(out), "--method", "pulse", "--prior", prior,
               "--method.steps", "5", "-n", "2", "--directions", str(file)]  # fmt: skip
    assert main([*command, "--edit", "smile=1.5", "--edit=age=-1"]) == 0
    assert "2 of them exact" in capsys.readouterr().out
    assert main(["verify", str(out)]) == 0
    assert read_provenance(out / "face" / "seed0000.png")["edit"] == "smile=1.5,age=-1"
    assert json.loads((out / "summary.jsonl").read_text().splitlines()[0])["edit"] == "smile=1.5,age=-1"
    run = read_yaml(out / "run.yaml")["method"]
    assert (run["edit"], run["directions"]) == ("smile=1.5,age=-1", str(file))
    assert main([*command, "--edit", "smile=2"]) == 1  # another edit in the same folder
    assert "other settings" in capsys.readouterr().err
    shutil.rmtree(out)
    assert main([*command, "--edit", "hair=1"]) == 1
    assert "there are age, smile" in capsys.readouterr().err
