"""A folder of results: nothing leaves it, damage in it is found and mended, two runs at once do not spoil it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from preimage.cli import main
from preimage.errors import InputError, PreimageError
from preimage.files import read_jsonl
from preimage.results import ResultFolder, is_whole
from preimage.weight_files import save_prior

QUICK = ["--seeds", "0-1", "--device", "cpu", "--method", "toy:Toy"]
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def prior(tiny_prior, tmp_path_factory):
    path = tmp_path_factory.mktemp("prior") / "tiny.safetensors"
    save_prior(path, tiny_prior, {"images_seen": 0})
    return str(path)


def save(path: Path, lr) -> str:
    Image.fromarray((lr * 255).byte().permute(1, 2, 0).numpy()).save(path, format="PNG")
    return str(path)


@pytest.fixture
def run(prior, tiny_lr, tmp_path):
    """`run()` fills the folder `out` from one face."""
    face = save(tmp_path / "face.png", tiny_lr)

    def run(*more: str) -> int:
        return main(["upsample", face, "-o", str(tmp_path / "out"), "--prior", prior, *QUICK, *more])

    return run


# ------------------------------------------------------------------------------------------------ nothing leaves the folder


@pytest.mark.parametrize("name", ["...png", "..png", ".png", "run.yaml.png", "summary.jsonl.png", "nul.png"])
def test_hostile_names_stay_inside(prior, tiny_lr, tmp_path, name):
    source, out = tmp_path / "in", tmp_path / "deep" / "out"
    source.mkdir()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "input.png").write_bytes(b"mine")  # where `..` would write
    inputs = [save(source / name, tiny_lr), save(source / "face.png", tiny_lr)]
    assert main(["upsample", *inputs, "-o", str(out), "--prior", prior, *QUICK]) == 0
    assert (tmp_path / "deep" / "input.png").read_bytes() == b"mine"
    assert {p.name for p in (tmp_path / "deep").iterdir()} == {"input.png", "out"}
    assert {p.name for p in out.iterdir() if p.is_file()} == {"run.yaml", "summary.jsonl"}
    folders = [p for p in out.iterdir() if p.is_dir()]
    assert len(folders) == 2
    assert all((p / "seed0001.png").is_file() for p in folders)
    assert main(["verify", str(out)]) == 0


def test_names_from_python_and_links_cannot_leave_either(tmp_path, tiny_lr):
    with ResultFolder.open(tmp_path / "out", {}) as folder:
        for stem in ("..", ".", "", "a/b", "../x", "/tmp/x", "run.yaml"):
            with pytest.raises(InputError, match="no name for a folder"):
                folder.claim(stem, tiny_lr)
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(InputError, match="no name for a folder"):
            folder.claim("link", tiny_lr)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_place_that_is_taken_fails_that_input_only(prior, tiny_lr, tmp_path, capsys):
    inputs = [save(tmp_path / f"{name}.png", tiny_lr) for name in ("a", "b", "c")]
    out = tmp_path / "out"
    (out / "b" / "seed0000.png").mkdir(parents=True)
    (out / "a").write_text("a file")
    assert main(["upsample", *inputs, "-o", str(out), "--prior", prior, *QUICK]) == 1
    told = capsys.readouterr().err
    assert f"{out / 'a'}: a file stands where a folder is needed" in told
    assert f"{out / 'b' / 'seed0000.png'}: cannot be written (is a folder)" in told
    assert (out / "c" / "seed0001.png").is_file()


# ------------------------------------------------------------------------------------------------------ damage and resuming


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", "half", "other size"])
def test_a_damaged_candidate_is_made_again(run, tmp_path, content):
    assert run() == 0
    path = tmp_path / "out" / "face" / "seed0001.png"
    whole = path.read_bytes()
    if content == "other size":
        Image.new("RGB", (15, 16)).save(path)
    else:
        path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    other = (path.parent / "seed0000.png").stat().st_mtime_ns
    assert run() == 0
    assert path.read_bytes() == whole
    assert (path.parent / "seed0000.png").stat().st_mtime_ns == other
    assert len(read_jsonl(tmp_path / "out" / "summary.jsonl")) == 2  # the old line is replaced
    assert main(["verify", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize(
    "line",
    [
        '{"input": "face"}',
        '{"input": 3, "file": []}',
        "[1]",
        "3",
        "{",
        '{"input": "x", "error": NaN}',
        "[" * 9000,
        "\x00\xff",
    ],
)
def test_a_damaged_summary_line_is_passed_over_and_said_so(run, tmp_path, capsys, line):
    assert run() == 0
    summary = tmp_path / "out" / "summary.jsonl"
    lines = summary.read_text().splitlines()
    summary.write_text("\n".join([lines[0], line, ""]))
    capsys.readouterr()
    assert run() == 0
    assert "1 damaged line(s) passed over" in capsys.readouterr().err
    assert sorted(d["file"] for d in read_jsonl(summary)) == ["seed0000.png", "seed0001.png"]
    assert main(["verify", str(tmp_path / "out")]) == 0
    assert run() == 0
    assert "damaged" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: !!int foo", "not readable as YAML"),
        ("a: !!timestamp 2020-99-99", "not readable as YAML"),
        ("1: 2", "a key that is no text"),
        ("- a", "holds a list, not settings"),
        ("[" * 3000, "not readable as YAML"),
        ("a: 1\na: 2", "stands twice"),
        ("method: 2020-99-99", "other settings"),
        ("\x00", "not readable as YAML"),
    ],
)
def test_a_damaged_record_is_one_line(run, tmp_path, capsys, text, words):
    assert run() == 0
    record = tmp_path / "out" / "run.yaml"
    record.write_text(text)
    capsys.readouterr()
    assert run() == 1
    told = capsys.readouterr().err
    assert words in told
    assert str(tmp_path / "out") in told
    assert told.count("\n") == 1
    assert record.read_text() == text  # nothing written is lost


@FUZZ
@given(
    text=st.text(max_size=60)
    | st.from_regex(r"(method|operator|a): ?[\[{&*!?|>'\"%@`0-9a-z:, \n-]{0,40}", fullmatch=True)
)
def test_any_record_opens_or_is_one_line(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "run.yaml").write_text(text, encoding="utf-8", errors="replace")
    try:
        ResultFolder.open(folder, {"method": {"name": "pulse"}, "seeds": "0"}).close()
        told = "opened"
    except PreimageError as error:
        told = str(error)
    assert "\n" not in told
    assert told == "opened" or str(folder) in told


@FUZZ
@given(
    lines=st.lists(
        st.text(max_size=40)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from(["input", "file"]), st.integers() | st.text(max_size=8)
        ).map(json.dumps),
        max_size=6,
    )
)
def test_any_summary_can_be_resumed(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "summary.jsonl").write_text("\n".join(lines), encoding="utf-8", errors="replace")
    (folder / "run.yaml").write_text("method: x\n")
    with ResultFolder.open(folder, {"method": "x"}) as found:
        assert all(isinstance(part, str) for key in found.done for part in key)


def test_what_is_a_whole_picture(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert is_whole(tmp_path / "a.png")
    assert is_whole(tmp_path / "a.png", 8)
    assert not is_whole(tmp_path / "a.png", 16)
    assert not is_whole(tmp_path / "gone.png")
    assert not is_whole(tmp_path)


def test_a_summary_holds_json_whatever_the_prior_makes(tiny_prior, tiny_lr, tmp_path):
    from preimage.invert.pulse import Pulse

    class Infinite(type(tiny_prior)):
        def synthesize(self, latents, noise=None, dtype=None):
            return super().synthesize(latents, noise, dtype) / 0

    broken = Infinite(tiny_prior.config, "broken").requires_grad_(False)
    broken.load_state_dict(tiny_prior.state_dict())
    (part,) = Pulse(prior=broken, device="cpu").upsample(tiny_lr, [0], steps=1)
    with ResultFolder.open(tmp_path, {}) as folder:
        folder.claim("face", tiny_lr)
        folder.write("face", part)
    (line,) = [
        json.loads(text, parse_constant=pytest.fail) for text in (tmp_path / "summary.jsonl").read_text().splitlines()
    ]
    assert line["error_before"] is None


# ------------------------------------------------------------------------------------------------------------ several runs


def test_two_runs_of_the_same_settings_share_a_folder(prior, tiny_lr, tmp_path):
    face, out = save(tmp_path / "face.png", tiny_lr), tmp_path / "out"
    command = [
        sys.executable, "-m", "preimage.cli", "upsample", face, "-o", str(out), "--prior", prior, "--seeds", "0-19",
        "--device", "cpu", "--batch", "1", "--method", "pulse", "--method.steps", "4",
    ]  # fmt: skip
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [p.communicate(timeout=120) for p in processes]
    assert [p.returncode for p in processes] == [0, 0], told
    lines = read_jsonl(out / "summary.jsonl")
    assert sorted(line["seed"] for line in lines) == list(range(20))
    assert not list(out.glob(".*"))
    assert main(["verify", str(out)]) == 0


def test_a_run_of_other_settings_is_refused_while_one_is_going(prior, tiny_lr, tmp_path, capsys):
    face, out = save(tmp_path / "face.png", tiny_lr), tmp_path / "out"
    command = ["upsample", face, "-o", str(out), "--prior", prior, "--device", "cpu", "--method", "pulse"]
    long = ["--seeds", "0-9999", "--batch", "1", "--method.steps", "4"]
    process = subprocess.Popen([sys.executable, "-m", "preimage.cli", *command, *long], stderr=subprocess.DEVNULL)
    try:
        began = time.monotonic()
        while not (out / "face" / "seed0001.png").is_file():
            assert time.monotonic() - began < 120
            assert process.poll() is None
            time.sleep(0.05)
        record = (out / "run.yaml").read_text()
        for other in (["--method.steps", "5"], ["--method.steps", "4", "--overwrite"]):
            assert main([*command, "--seeds", "0", *other]) == 1
            assert f"by another run (process {process.pid})" in capsys.readouterr().err
        assert (out / "run.yaml").read_text() == record
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    for folder in (out, out / "face"):  # as if it had been killed while it wrote
        from preimage.processes import host

        (folder / f".{host()}0123abcd-{process.pid}.tmp").write_bytes(b"half")
    assert main([*command, "--seeds", "0-1", "--batch", "1", "--method.steps", "4"]) == 0
    assert not [p for p in out.rglob(".*")]
    lines = read_jsonl(out / "summary.jsonl")
    assert len({line["file"] for line in lines}) == len(lines)


def test_a_write_that_another_run_did_first_is_left_out(tmp_path, tiny_prior, tiny_lr):
    from preimage.invert.pulse import Pulse

    (part,) = Pulse(prior=tiny_prior, device="cpu").upsample(tiny_lr, [0, 1], steps=1)
    with ResultFolder.open(tmp_path, {}) as first, ResultFolder.open(tmp_path, {}) as second:
        first.claim("face", tiny_lr)
        assert first.write("face", part.select([0])) == [0]
        assert second.write("face", part) == [1]
        assert first.missing("face", [0, 1, 2]) == [2]
    assert [line["seed"] for line in read_jsonl(tmp_path / "summary.jsonl")] == [0, 1]
    assert torch.equal(part.lr, tiny_lr)


# ------------------------------------------------------------------------------------------- what a second attack found


def test_bicubic_of_two_sizes_is_not_mixed(run, tmp_path, capsys):
    plain = ["--method", "bicubic"]
    assert run(*plain) == 0
    face = str(tmp_path / "face.png")
    before = (tmp_path / "out" / "face" / "seed0000.png").read_bytes()
    assert main(["upsample", face, "-o", str(tmp_path / "out"), *QUICK, *plain]) == 1  # the default prior is larger
    assert "other settings (method differ)" in capsys.readouterr().err
    assert (tmp_path / "out" / "face" / "seed0000.png").read_bytes() == before


def test_results_without_their_record_are_not_taken_over(run, tmp_path, capsys):
    assert run() == 0
    (tmp_path / "out" / "run.yaml").unlink()
    assert run() == 1
    assert "no readable run.yaml" in capsys.readouterr().err
    os.mkfifo(tmp_path / "out" / "run.yaml")
    assert run() == 1
    (tmp_path / "out" / "run.yaml").unlink()
    assert run("--overwrite") == 0


@pytest.mark.parametrize("content", [b"", b"\x89PNG half"])
def test_a_damaged_copy_of_the_photo_is_made_again(run, tmp_path, content):
    assert run() == 0
    kept = tmp_path / "out" / "face" / "input.png"
    whole = kept.read_bytes()
    kept.write_bytes(content)
    assert run() == 0
    assert kept.read_bytes() == whole


def test_lines_that_lead_elsewhere_are_swept_out(run, tmp_path, capsys):
    assert run() == 0
    summary = tmp_path / "out" / "summary.jsonl"
    with summary.open("a") as file:
        file.write('{"input": "..", "file": "../../x"}\n')
    assert run() == 0
    assert "1 damaged line(s)" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "out")]) == 0


def test_counts_are_of_what_this_run_wrote(tmp_path, tiny_prior, tiny_lr, monkeypatch):
    from preimage import upsampling

    original = ResultFolder.write
    monkeypatch.setattr(
        ResultFolder, "write", lambda self, *a, **k: original(self, *a, **k)[1:]
    )  # another was faster once
    save(tmp_path / "face.png", tiny_lr)
    save_prior(tmp_path / "tiny.safetensors", tiny_prior, {})
    tally = upsampling.upsample_folder(
        [tmp_path / "face.png"],
        tmp_path / "out",
        method="toy:Toy",
        prior=str(tmp_path / "tiny.safetensors"),
        seeds="0-2",
    )
    assert (tally.written, tally.exact) == (2, 2)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--variants", "4000000000"], "variants (4000000000) must be from 0 to 100000"),
        (["-o", ""], "an empty name for the output"),
        (["--device", "cpu:99"], "cpu:99"),
        (["--device", "x"], "device 'x'"),
        (["--precision", "fp8"], "precision"),
        (["--preset", "x"], "preset 'x'"),
        (["--prior", "x" * 5000], "see `preimage models list`"),
    ],
)
def test_what_cannot_work_says_so_in_one_line(run, capsys, more, words):
    assert run(*more) == 1
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("name", ["summary.jsonl", ".run-x.lock"])
def test_pipes_and_folders_in_the_way_do_not_hang(run, tmp_path, name):
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out" / name)
    assert run() == (1 if name == "summary.jsonl" else 0)
    (tmp_path / "out" / name).unlink()
    (tmp_path / "out" / name).mkdir()
    assert run() == (1 if name == "summary.jsonl" else 0)
