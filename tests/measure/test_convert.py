"""Published files become safetensors that say what they are; nothing in a file is executed; wrong files are named."""

from __future__ import annotations

import dataclasses
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from preimage.cli import main
from preimage.errors import OutputError, WeightsError
from preimage.feature_networks import NETWORKS, load_network
from preimage.measure.convert import convert
from preimage.nets.inception import FIDInception
from preimage.nets.trunks import SqueezeNet11
from preimage.weight_files import sha256


def published(path: Path, **more: Tensor) -> Path:
    """A file as torchvision publishes it: convolutions and a classifier, here random."""
    state = {**SqueezeNet11().state_dict(), "classifier.1.weight": torch.rand(4, 512, 1, 1), **more}
    torch.save(state, path)
    return path


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published file that the table knows."""
    path = published(tmp_path / "squeezenet1_1-published.pth")
    monkeypatch.setitem(NETWORKS, "squeeze", dataclasses.replace(NETWORKS["squeeze"], sha256=(sha256(path)[:8],)))
    return path


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(str(path), "pt") as file:
        return dict(file.metadata())


def test_a_published_file_comes_out_as_an_official_network(known: Path, tmp_path: Path) -> None:
    done = convert(known, tmp_path / "out.safetensors")
    assert done.path == tmp_path / "out.safetensors"
    assert done.entry.name == "squeeze"
    assert done.official
    assert metadata_of(done.path) == {
        "format": "preimage-network-1",
        "network": "squeeze",
        "source": known.name,
        "source_sha256": sha256(known),
        "official": "true",
        "licence": NETWORKS["squeeze"].licence,
    }
    before, after = torch.load(known, weights_only=True), load_file(done.path)
    assert set(after) == {key for key in before if not key.startswith("classifier.")}
    assert all(torch.equal(after[key], before[key]) for key in after)
    network = load_network(done.path)
    assert isinstance(network, SqueezeNet11)
    assert network.official


@pytest.mark.parametrize("zipped", [True, False])
def test_other_weights_are_converted_and_marked(tmp_path: Path, zipped: bool) -> None:
    """Both formats that PyTorch has written; the published Inception is of the older one."""
    torch.save(SqueezeNet11().state_dict(), tmp_path / "mine.pth", _use_new_zipfile_serialization=zipped)
    done = convert(tmp_path / "mine.pth", tmp_path / "out.safetensors")
    assert done.entry.name == "squeeze"
    assert not done.official
    assert metadata_of(done.path)["official"] == "false"
    assert "star" in str(done)
    assert not load_network(done.path).official


def test_inception_keeps_its_classifier(tmp_path: Path) -> None:
    state = FIDInception().state_dict()
    torch.save(state, tmp_path / "a.pth")
    done = convert(tmp_path / "a.pth", tmp_path)
    assert done.path == tmp_path / NETWORKS["inception"].file  # a folder gets the name that is looked for
    after = load_file(done.path)
    assert set(after) == {key for key in state if not key.endswith("num_batches_tracked")}
    assert not load_network("inception", tmp_path).official


def test_parameters_half_precision_and_shared_storage_come_through(tmp_path: Path) -> None:
    state = {key: nn.Parameter(value.half()) for key, value in SqueezeNet11().state_dict().items()}
    both = torch.rand(2, 128).half()
    state["features.3.expand1x1.bias"], state["features.3.expand3x3.bias"] = (nn.Parameter(t[:64]) for t in both)
    torch.save(state, tmp_path / "a.pth")
    network = load_network(convert(tmp_path / "a.pth", tmp_path / "a.safetensors").path)
    after = network.state_dict()
    assert all(value.dtype == torch.float32 for value in after.values())
    assert all(torch.equal(after[key], value.detach().float()) for key, value in state.items())


def test_the_default_place_is_where_it_is_looked_for(
    known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREIMAGE_WEIGHTS", str(tmp_path / "weights"))
    assert convert(known).path == tmp_path / "weights" / NETWORKS["squeeze"].file
    assert load_network("squeeze").official


# ------------------------------------------------------------------------------------------------------------ refusals


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def refused(path: Path, match: str) -> None:
    with pytest.raises(WeightsError, match=match) as caught:
        convert(path, path.with_suffix(".safetensors"))
    assert path.name in str(caught.value)
    assert not path.with_suffix(".safetensors").exists()


def test_hostile_pickles_are_not_executed(tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "a.pth"
    for write in (
        lambda what: torch.save(what, path),
        lambda what: torch.save(what, path, _use_new_zipfile_serialization=False),
        lambda what: path.write_bytes(pickle.dumps(what)),
    ):
        write({"features.0.weight": Canary(canary)})
        refused(path, "not a PyTorch file of plain tensors.*Nothing in it was executed.*alexnet-owt-7be5be79")
        assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(canary)))  # the control: the canary does sing
    assert canary.exists()


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with pytest.raises(WeightsError, match=r"gone\.pth: no such file"):
        convert(tmp_path / "gone.pth", tmp_path / "out.safetensors")
    with pytest.raises(WeightsError, match="no such file"):
        convert(tmp_path, tmp_path / "out.safetensors")
    for content in (b"", b"<html>404</html>", published(path).read_bytes()[:5000]):
        path.write_bytes(content)
        refused(path, "not a PyTorch file of plain tensors, or a damaged one")
    with tarfile.open(path, "w") as old:  # as PyTorch 0.1 wrote them
        old.add(__file__, "sys_info")
    refused(path, "not a PyTorch file")
    with zipfile.ZipFile(path, "w") as archive:  # TorchScript, as other projects publish their Inception
        for name in ("constants.pkl", "data.pkl", "version"):
            archive.writestr(f"inception/{name}", pickle.dumps(()) if name != "version" else "3\n")
    refused(path, "not a PyTorch file")
    for content_of in ({"state_dict": {"a": torch.zeros(1)}}, [torch.zeros(1)], {}, torch.zeros(3)):
        torch.save(content_of, path)
        refused(path, "no flat list of named tensors")


def test_other_networks_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.bias": torch.zeros(9)}, path)
    refused(path, r"2 tensors \(conv1\.weight, fc\.bias, …\) that are no network known here.*vgg16-397923af\.pth")
    published(path, **{"features.13.bias": torch.zeros(2)})
    refused(path, "no network known here")
    state = FIDInception().state_dict()  # torchvision's own: 1,000 classes and an auxiliary classifier
    torch.save({**state, "fc.weight": torch.zeros(1000, 2048), "AuxLogits.fc.weight": torch.zeros(1000, 768)}, path)
    refused(path, r"Inception v3, but not the one of FID.*pt_inception-2015-12-05-6726825d\.pth")


def test_results_that_cannot_be_written(known: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="its own conversion"):
        convert(known, known)
    assert torch.load(known, weights_only=True)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        convert(known, tmp_path / "file" / "out.safetensors")


# -------------------------------------------------------------------------------------------------------- command line


def test_the_command(known: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.safetensors"
    assert main(["models", "convert", str(known), "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    assert str(out) in printed
    assert "squeeze, the published" in printed
    assert NETWORKS["squeeze"].licence in printed
    assert load_network(out).official
    assert main(["models", "convert", str(tmp_path / "gone.pth"), "-o", str(out)]) == 1
    assert "no such file" in capsys.readouterr().err
    assert main(["models", "list"]) == 0
