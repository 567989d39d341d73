"""What files prove: tampered notes, missing and see-through candidates are reported, the rest is checked, nothing is believed."""

from __future__ import annotations

import base64
import json
import resource
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import preimage
from preimage.cli import main
from preimage.errors import InputError
from preimage.files import read_provenance
from preimage.verify import verify_folder


@pytest.fixture(scope="module")
def filled(tiny_lr, tiny_prior, tmp_path_factory):
    """A folder of three exact candidates."""
    from preimage.results import ResultFolder

    out = tmp_path_factory.mktemp("out")
    candidates = preimage.upsample(tiny_lr, range(3), prior=tiny_prior, method="pulse", device="cpu", steps=2)
    with ResultFolder.open(out, {"degradation": "bicubic"}) as folder:
        folder.claim("face", tiny_lr)
        folder.write("face", candidates)
    return out


@pytest.fixture
def out(filled, tmp_path):
    import shutil

    return Path(shutil.copytree(filled, tmp_path / "out"))


def rewrite(path: Path, **notes: str) -> None:
    """The same pixels with other notes."""
    info = PngInfo()
    for key, value in {**read_provenance(path), **notes}.items():
        info.add_text(key, value)
    with Image.open(path) as image:
        image.load()
    image.save(path, pnginfo=info)


SPEC = {"name": "bicubic", "hr_size": [16, 16], "lr_size": [4, 4], "border": "renormalise"}
BOMB = base64.b64encode(zlib.compress(bytes(1 << 24))).decode()
TAMPERED = {
    "not json": "{",
    "a list": "[1]",
    "a number": "3",
    "null": "null",
    "deep": "[" * 100_000,
    "nan": '{"name": NaN}',
    "name": json.dumps({**SPEC, "name": []}),
    "no such name": json.dumps({**SPEC, "name": "magic"}),
    "huge": json.dumps({**SPEC, "hr_size": 1e12}),
    "huge pair": json.dumps({**SPEC, "hr_size": [10**12, 10**12], "lr_size": [10**6, 10**6]}),
    "infinite": '{"name": "bicubic", "hr_size": 1e999, "lr_size": 4, "border": "renormalise"}',
    "too many digits": json.dumps({**SPEC, "hr_size": [16, 10**400]}),
    "far": json.dumps({**SPEC, "hr_size": 1e300}),
    "sizes swapped": json.dumps({**SPEC, "hr_size": [4, 4], "lr_size": [16, 16]}),
    "no border": json.dumps({**SPEC, "border": None}),
    "border": json.dumps({**SPEC, "border": {}}),
    "unknown key": json.dumps({**SPEC, "size": 3}),
    "sigma": json.dumps({**SPEC, "name": "gaussian", "sigma": 1e9}),
    "sigma list": json.dumps({**SPEC, "name": "gaussian", "sigma": [[]]}),
    "kernel": json.dumps({**SPEC, "name": "kernel", "kernel": "x"}),
    "phase": json.dumps({**SPEC, "name": "kernel", "kernel": [1], "phase": 1e300}),
    "bomb": json.dumps({**SPEC, "name": "mine", "border": "custom", "rows": BOMB, "cols": BOMB}),
    "matrices": json.dumps({**SPEC, "name": "mine", "border": "custom", "rows": 1, "cols": "%"}),
    "learned": json.dumps({**SPEC, "kind": "learned"}),
}


@pytest.mark.parametrize("text", TAMPERED.values(), ids=TAMPERED)
def test_tampered_notes_are_reported_and_the_rest_is_checked(out, capsys, text):
    path = out / "face" / "seed0001.png"
    rewrite(path, degradation=text)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert main(["verify", str(out)]) == 1
    if sys.platform == "linux":
        assert (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
        )  # KiB: nothing follows from a claim
    told = capsys.readouterr()
    assert "2 of 3 candidates" in told.out
    (line,) = told.err.splitlines()
    assert str(path) in line or "run.yaml" in line
    assert len(line) < 400


@pytest.mark.parametrize("text", [TAMPERED["huge"], TAMPERED["deep"], TAMPERED["a list"]])
def test_evaluate_takes_tampered_notes_as_calmly(out, text):
    from preimage.measure.evaluate import evaluate_folder

    rewrite(out / "face" / "seed0000.png", degradation=text)
    try:
        found = evaluate_folder(out, progress=False)
        told = " ".join(found.method.problems)
    except InputError as error:
        told = str(error)
    assert "\n" not in told


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["bicubic", "gaussian", "kernel", "area", "mine"]) | ODD,
        "hr_size": st.just([16, 16]) | st.just(16) | ODD,
        "lr_size": st.just([4, 4]) | ODD,
        "border": st.just("renormalise") | st.just("reflect") | ODD,
        "sigma": st.floats() | ODD,
        "kernel": st.lists(st.floats(), max_size=5) | ODD,
        "phase": st.floats() | ODD,
        "rows": st.text(max_size=9) | ODD,
        "cols": ODD,
        "kind": st.just("learned") | ODD,
        "scale": ODD,
    },
).map(json.dumps)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=SPECS | st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=40))
def test_any_note_is_a_verdict(out, text):
    rewrite(out / "face" / "seed0001.png", degradation=text)
    found = verify_folder(out)
    assert found.exact + len(found.problems) == 3
    assert found.exact >= 2
    assert all("\n" not in problem for problem in found.problems)


def test_a_listed_candidate_that_is_missing_is_reported(out, capsys):
    path = out / "face" / "seed0002.png"
    path.unlink()
    assert main(["verify", str(out)]) == 1
    told = capsys.readouterr()
    assert f"{path}: is listed in summary.jsonl but missing" in told.err
    assert "2 of 3 candidates" in told.out


def test_a_missing_input_or_folder_is_reported(out):
    (out / "face" / "input.png").unlink()
    assert all("input.png: no such file" in problem for problem in verify_folder(out).problems)
    for path in (out / "face").iterdir():
        path.unlink()
    (out / "face").rmdir()
    assert len(verify_folder(out).problems) == 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("alpha", [0, 128])
def test_a_candidate_that_can_be_seen_through_fails(out, mode, alpha):
    path = out / "face" / "seed0001.png"
    with Image.open(path) as image:
        image.load()
    notes = PngInfo()
    for key, value in read_provenance(path).items():
        notes.add_text(key, value)
    if mode == "P":
        image.quantize(16).save(path, pnginfo=notes, transparency=bytes([alpha] * 16))
    else:
        image.putalpha(alpha)
        image.convert(mode).save(path, pnginfo=notes)
    found = verify_folder(out)
    assert found.exact == 2
    assert "has transparent pixels" in found.problems[0]


def test_an_opaque_alpha_channel_changes_nothing(out):
    path = out / "face" / "seed0001.png"
    with Image.open(path) as image:
        image.putalpha(255)
        image.save(path)
    assert verify_folder(out).exact == 3


@pytest.mark.parametrize(
    "line", ['{"input": "..", "file": "seed0000.png"}', '{"input": "face", "file": "../../x.png"}', "{"]
)
def test_a_summary_cannot_lead_elsewhere(out, line):
    with (out / "summary.jsonl").open("a") as file:
        file.write(line + "\n")
    found = verify_folder(out)
    assert found.exact == 3
    assert found.problems == [f"{out / 'summary.jsonl'}: 1 damaged line(s); what they listed is not checked"]


def test_a_folder_without_results(tmp_path):
    with pytest.raises(InputError, match="no candidates here"):
        verify_folder(tmp_path)


def test_a_header_that_claims_a_large_picture_costs_nothing(out):
    def claim(width, height):
        def chunk(kind, data):
            return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

        spec = json.dumps({**SPEC, "hr_size": [height, width], "lr_size": [4, 4]}).encode()
        header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
        pieces = (
            chunk(b"IHDR", header)
            + chunk(b"tEXt", b"operator\0" + spec)
            + chunk(b"IDAT", zlib.compress(b""))
            + chunk(b"IEND", b"")
        )
        (out / "face" / "seed0001.png").write_bytes(b"\x89PNG\r\n\x1a\n" + pieces)

    for width, height in ((178_000_000, 1), (8000, 8000), (1, 178_000_000)):
        claim(width, height)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = verify_folder(out)
        assert found.exact == 2
        assert "seed0001.png" in found.problems[0]
        if sys.platform == "linux":
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10


def test_a_copy_of_the_input_is_no_candidate(out):
    import shutil

    shutil.copyfile(out / "face" / "input.png", out / "face" / "seed0001.png")
    found = verify_folder(out)
    assert found.exact == 2
    assert "no more than its input" in found.problems[0]


def test_a_name_that_no_folder_has():
    with pytest.raises(InputError, match="null"):
        verify_folder("a\0b")
