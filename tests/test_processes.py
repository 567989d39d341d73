"""Processes that share a folder: who is alive, whose temporary files go, one change at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from preimage.processes import alive, changing, host, remove_litter, start_of, temporary_name


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_alive():
    assert alive(os.getpid())
    assert alive(os.getpid(), start_of(os.getpid()))
    assert not alive(os.getpid(), "1")  # a process of the same number that started at another time
    assert not alive(dead_pid())
    assert not alive(0)
    assert not alive(-1)
    assert not alive(10**30)


def test_litter_of_dead_processes_goes_and_nothing_else(tmp_path):
    rand = "0123abcd"
    keep = [
        temporary_name(),  # our own, at work
        f".{'0' * 8 if host() != '0' * 8 else '1' * 8}{rand}-{dead_pid()}.tmp",  # of another machine: who knows
        f".{host()}{rand}.tmp",  # of nobody known
        ".notes.tmp",
        "seed0000.png",
        f"{host()}{rand}-1.tmp",
    ]
    go = f".{host()}{rand}-{dead_pid()}.tmp"
    for name in (*keep, go):
        (tmp_path / name).write_text("half")
    assert remove_litter(tmp_path, tmp_path / "missing") == 1
    assert {p.name for p in tmp_path.iterdir()} == set(keep)
    assert remove_litter(tmp_path, alone=True) == 1
    assert {p.name for p in tmp_path.iterdir()} == {name for name in keep if name != f".{host()}{rand}.tmp"}


def test_old_litter_without_a_process_goes_after_an_hour(tmp_path):
    path = tmp_path / ".0123456789abcdef.tmp"
    path.write_text("half")
    assert remove_litter(tmp_path) == 0
    os.utime(path, (time.time() - 4000,) * 2)
    assert remove_litter(tmp_path) == 1


def test_changes_of_two_processes_do_not_mix(tmp_path):
    count = tmp_path / "count"
    count.write_text("0")
    program = (
        "import sys; from pathlib import Path; from preimage.processes import changing\n"
        "folder = Path(sys.argv[1])\n"
        "for _ in range(200):\n"
        "    with changing(folder):\n"
        "        n = int((folder / 'count').read_text())\n"
        "        (folder / 'count').write_text(str(n + 1))\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(2)]
    with changing(tmp_path):
        before = count.read_text()
        time.sleep(0.2)
        assert count.read_text() == before
    assert [p.wait(60) for p in processes] == [0, 0]
    assert count.read_text() == "400"
