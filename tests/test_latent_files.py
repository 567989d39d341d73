"""Files of latents: what was kept stays, what is made again is replaced, what cannot be read is said so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from preimage.errors import InputError
from preimage.invert.pulse import Pulse
from preimage.latent_files import add_latents, load_latents
from preimage.results import ResultFolder


@pytest.fixture(scope="module")
def part(tiny_prior, tiny_lr):
    (found,) = Pulse(prior=tiny_prior, device="cpu").upsample(tiny_lr, [3, 0, 5], steps=1)
    return found


def test_candidates_gather_in_one_file(tmp_path, part):
    path = tmp_path / "latents0000.safetensors"
    for i in (1, 0, 2):
        add_latents(path, part[i], lambda seed: True)
    for seeds in ((3, 0, 5), (5, 3)):
        found = load_latents(path, seeds)
        rows = [part.seeds.index(seed) for seed in seeds]
        assert found.keys() == part.latents.keys()
        assert all(torch.equal(x, part.latents[name][rows]) for name, x in found.items())
    again = replace(part[1], latents={name: x + 1 for name, x in part[1].latents.items()})
    add_latents(path, again, lambda seed: seed != 5)
    assert torch.equal(load_latents(path, [0])["latents"], part.latents["latents"][1:2] + 1)
    with pytest.raises(InputError, match=r"holds the seeds \[3, 0\], but 5 are asked for"):
        load_latents(path, [5])


@pytest.mark.parametrize("content", [b"", b"no latents", "shape"])
def test_a_file_that_cannot_be_gone_on_from_is_begun_anew(tmp_path, part, content):
    path = tmp_path / "latents0000.safetensors"
    if content == "shape":
        add_latents(path, replace(part[0], latents={"latents": torch.zeros(1, 3)}), lambda seed: True)
    else:
        path.write_bytes(content)
        with pytest.raises(InputError, match="holds no latents"):
            load_latents(path, [3])
    add_latents(path, part[1], lambda seed: True)
    assert torch.equal(load_latents(path, [0])["latents"], part.latents["latents"][1:2])


def test_a_folder_keeps_latents_of_listed_candidates_only(tmp_path, part, tiny_lr):
    with ResultFolder.open(tmp_path, {"a": 1}) as folder:
        folder.claim("face", tiny_lr)
        folder.keep_latents("face", part[0], 0)
        folder.write("face", part[0])
        folder.keep_latents("face", part[1], 0)  # and the process ends before it is written
        folder.keep_latents("face", part[2], 0)
    path = tmp_path / "face" / "latents0000.safetensors"
    assert len(load_latents(path, [3, 5])["latents"]) == 2
    with pytest.raises(InputError, match=r"holds the seeds \[3, 5\]"):
        load_latents(path, [0])
    with ResultFolder.open(tmp_path, {"a": 2}, overwrite=True) as folder:  # latents of other settings go
        folder.keep_latents("face", part[1], 0)
    assert len(load_latents(path, [0])["latents"]) == 1
