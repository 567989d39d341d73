"""Finding directions and writing their file: the command, what it says, what it refuses."""

from __future__ import annotations

import csv

import pytest
import torch
from torch import nn

from preimage.cli import main
from preimage.errors import InputError
from preimage.files import save_png
from preimage.generate.directions import Directions
from preimage.train import directions as found_by
from preimage.train.directions import find_directions
from preimage.weight_files import read_metadata, save_prior
from preimage.weights import load_directions


class MeanColour(nn.Module):
    """Looks at pictures as three numbers."""

    def pooled(self, x):
        return x.mean((2, 3))


@pytest.fixture
def coloured(tiny_prior, tmp_path):
    """The tiny prior's own pictures, labelled by the median of their red and by their green in hundredths."""
    pictures = tiny_prior.sample(range(500, 660))
    red, green = pictures[:, 0].mean((1, 2)), pictures[:, 1].mean((1, 2))
    folder = tmp_path / "coloured"
    folder.mkdir()
    with (folder / "index.csv").open("w") as out:
        lines = csv.writer(out)
        lines.writerow(["file", "group"])
        for i, picture in enumerate(pictures):
            save_png(folder / f"{i:03d}.png", (picture * 255).round() / 255)
            word = "red" if red[i] > red.median() else "pale"
            lines.writerow([f"{i:03d}.png", f"{word};green{int(1000 * green[i])}"])
    return folder


def test_labels_of_real_pictures_become_directions_of_the_prior(tiny_prior, coloured, tmp_path, monkeypatch):
    monkeypatch.setattr(found_by, "_look", lambda features, device: (MeanColour().pooled, "colour"))
    path = tmp_path / "found.safetensors"
    found = find_directions(
        tiny_prior,
        path,
        ["labels", "ganspace"],
        data=[coloured],
        attributes=["green", "tint=red:pale"],
        samples=600,
        count=2,
    )
    assert found.directions.names == ("ganspace0", "ganspace1", "green", "tint")
    assert any("green: latents explain" in line for line in found.lines)
    latents = tiny_prior.latents(range(40))
    before, after = (
        tiny_prior.synthesize(x).clamp(0, 1).mean((2, 3))
        for x in (latents, load_directions(path, tiny_prior).move(latents, {"green": 1.0}))
    )
    red, green, _ = (after - before).mean(0)
    assert green > 3 * abs(red)
    about = read_metadata(path)
    assert about["trained"]["data"] == ["coloured"]
    assert about["declares"]["looked_through"] == ["colour"]
    assert about["declares"]["bound_to"]["name"] == "tiny"
    held = find_directions(
        tiny_prior, path, ["labels"], data=[coloured], attributes=["green"], hold=["tint=red:pale"], samples=600
    )
    assert held.directions.names == ("green",)
    torch.testing.assert_close(held.directions.vectors[0], found.directions.vectors[2])


def test_the_command_writes_a_file_without_any_data(tiny_prior, tmp_path, capsys):
    save_prior(tmp_path / "tiny.safetensors", tiny_prior, {}, dtype=torch.float32)
    path = tmp_path / "found.safetensors"
    command = ["directions", str(tmp_path / "tiny.safetensors"), "-o", str(path), "--count", "2", "--samples", "100"]
    assert main([*command, "--rows", "2-3"]) == 0
    assert "4 directions written" in capsys.readouterr().out
    found = load_directions(path, tiny_prior)
    assert isinstance(found, Directions)
    assert found.names == ("sefa0", "sefa1", "ganspace0", "ganspace1")
    assert (found.vectors[:, [0, 1, 4, 5]] == 0).all()
    assert (found.vectors[:, 2:4].abs().sum((1, 2)) > 0).all()
    assert path.stat().st_size < 10_000
    assert main(["models", "show", str(path)]) == 0
    assert "sefa0" in capsys.readouterr().out
    assert main([*command, "--rows", "3-9"]) == 1
    assert "has the rows 0 to 5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"methods": ["pca"]}, "there are sefa, ganspace, labels, smile"),
        ({"methods": ["labels"]}, "no data are named"),
        ({"methods": ["smile"]}, "no landmark network"),
        ({"rows": "x-3"}, "such as 0-5"),
    ],
)
def test_what_lacks_something_is_refused(given, words, tiny_prior, tmp_path):
    with pytest.raises(InputError, match=words):
        find_directions(tiny_prior, tmp_path / "x.safetensors", **given)
