"""The networks that measure: the table, where files are looked for, what is said when one is missing, what counts as published."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from preimage.errors import WeightsError
from preimage.feature_networks import (
    FILES,
    FORMAT,
    NETWORKS,
    FileEntry,
    NetworkEntry,
    identify,
    load_network,
    locate,
    weights_folder,
)
from preimage.measure.judges import JUDGES
from preimage.nets.features import FeatureNetwork, SqueezeNet
from preimage.nets.trunks import VGG16, SqueezeNet11

SHARED = Path(__file__).parents[1].parent / "shared" / "weights"
OFFICIAL = ["alex", "vgg16", "squeeze", "inception"]


def save(module: FeatureNetwork, path: Path, **about: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(module.state_dict(), path, about or None)
    return path


def converted(name: str, path: Path, digest: str | None = None) -> Path:
    """What `convert` writes, here around random weights."""
    entry = NETWORKS[name]
    return save(
        entry.network(), path, format=FORMAT, network=name, source_sha256=entry.sha256[0] if digest is None else digest
    )


# -------------------------------------------------------------------------------------------------------------- table


def test_the_table_is_consistent() -> None:
    entries: list[FileEntry] = [*NETWORKS.values(), *FILES.values()]
    for table in (NETWORKS, FILES):
        assert all(name == entry.name for name, entry in table.items())
    assert len({entry.name for entry in entries}) == len({entry.file for entry in entries}) == len(entries)
    assert len({entry.label for entry in NETWORKS.values()}) == len(NETWORKS)
    for entry in entries:
        assert entry.url.startswith("https://")
        assert entry.licence
        assert entry.size > 0
    assert [name for name, entry in NETWORKS.items() if entry.official] == OFFICIAL
    assert "fid" not in {entry.label for entry in NETWORKS.values()}


@pytest.mark.parametrize("name", OFFICIAL)
def test_hashes_are_those_that_the_public_files_are_named_after(name: str) -> None:
    entry = NETWORKS[name]
    found = re.search(r"-([0-9a-f]{8})\.pth$", entry.source)
    assert found
    assert entry.sha256[0].startswith(found[1])
    assert all(re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}", known) for known in entry.sha256)
    assert entry.is_published(entry.sha256[0])
    assert not entry.is_published("")
    assert not entry.is_published("0" * 64)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_told_by_its_tensors(name: str) -> None:
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in NETWORKS[name].network().state_dict().items()}
    found = identify(shapes)
    assert found is NETWORKS[name]
    key = next(iter(shapes))
    assert identify({**shapes, key: (1, 2, 3)}) is None
    assert identify({k: v for k, v in shapes.items() if k != key}) is None
    assert identify({**shapes, "features.77.bias": (3,)}) is None
    assert identify({}) is None


def test_judges_are_entries() -> None:
    assert set(JUDGES) == {"vgg", "identity", "squeeze"}
    for name, judge in JUDGES.items():
        assert judge.name == judge.entry.label == name
        assert NETWORKS[judge.entry.name] is judge.entry
        assert not judge.entry.official


# -------------------------------------------------------------------------------------------------------------- files


def test_the_folder_is_given_or_named_or_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREIMAGE_WEIGHTS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights_folder() == tmp_path / ".cache" / "preimage" / "weights"
    monkeypatch.setenv("PREIMAGE_WEIGHTS", str(tmp_path / "there"))
    assert weights_folder() == tmp_path / "there"
    assert weights_folder(tmp_path / "here") == tmp_path / "here"
    assert weights_folder("~/x") == tmp_path / "x"


@pytest.mark.parametrize("name", [*NETWORKS, *FILES])
def test_a_missing_file_is_named_with_size_licence_source_and_place(tmp_path: Path, name: str) -> None:
    entry = NETWORKS.get(name) or FILES[name]
    with pytest.raises(WeightsError) as caught:
        locate(name, tmp_path)
    said = str(caught.value)
    for word in (name, str(tmp_path / entry.file), " MB", entry.licence, entry.url, "PREIMAGE_WEIGHTS", str(tmp_path)):
        assert word in said
    command = f"`preimage models convert {entry.source} -o {tmp_path / entry.file}`"
    assert (command in said) == (name in OFFICIAL)
    assert ("hf-hub:" in said) == (isinstance(entry, NetworkEntry) and bool(entry.hub))
    (tmp_path / entry.file).touch()
    assert locate(name, tmp_path) == tmp_path / entry.file


def test_sizes_are_printed_in_megabytes(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"\(244 MB, licence: BSD-3"):
        locate("alex", tmp_path)
    with pytest.raises(WeightsError, match=r"\(95\.6 MB, licence: Apache"):
        locate("inception", tmp_path)


def test_unknown_entries_list_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"dino: no such entry; there are alex, vgg16.*niqe-pristine"):
        locate("dino", tmp_path)
    with pytest.raises(WeightsError, match=r"dino: neither a network \(alex.*\) nor a file.*hf-hub"):
        load_network("dino", tmp_path)


# ------------------------------------------------------------------------------------------------------------ networks


def test_a_network_by_entry_and_by_path(tmp_path: Path) -> None:
    original = SqueezeNet()
    path = save(original, tmp_path / NETWORKS["squeezenet11-keras"].file)
    for network in (load_network("squeezenet11-keras", tmp_path), load_network(path)):
        assert isinstance(network, SqueezeNet)
        assert torch.equal(network.conv1.weight, original.conv1.weight)
        assert not network.training
        assert not any(p.requires_grad for p in network.parameters())
        assert not network.official


def test_only_a_conversion_of_the_published_file_is_official(tmp_path: Path) -> None:
    path = tmp_path / NETWORKS["squeeze"].file
    converted("squeeze", path)
    assert load_network("squeeze", tmp_path).official
    assert load_network(path).official
    assert load_network(converted("squeeze", tmp_path / "a.safetensors", "f364aa15" + "0" * 56)).official
    for other in (
        converted("squeeze", tmp_path / "b.safetensors", "0" * 64),
        converted("squeeze", tmp_path / "c.safetensors", ""),
        save(SqueezeNet11(), tmp_path / "d.safetensors"),
        save(SqueezeNet11(), tmp_path / "e.safetensors", network="squeeze", source_sha256=NETWORKS["squeeze"].sha256[0]),
        save(
            SqueezeNet11(), tmp_path / "f.safetensors", format=FORMAT, network="alex",
            source_sha256=NETWORKS["squeeze"].sha256[0],
        ),
    ):  # fmt: skip
        assert not load_network(other).official, other


def test_a_copy_of_the_published_safetensors_is_official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from preimage.weight_files import sha256

    path = save(SqueezeNet11(), tmp_path / NETWORKS["squeeze"].file)
    assert not load_network("squeeze", tmp_path).official
    monkeypatch.setitem(NETWORKS, "squeeze", dataclasses.replace(NETWORKS["squeeze"], sha256=(sha256(path),)))
    assert load_network("squeeze", tmp_path).official


def test_files_that_are_no_network(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(WeightsError, match=r"a\.pth: not a readable safetensors.*`preimage models convert a\.pth`"):
        load_network(tmp_path / "a.pth")
    save_file({"a": torch.zeros(2)}, tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match=r"b\.safetensors: its tensors are those of no network known"):
        load_network(tmp_path / "b.safetensors")
    save(SqueezeNet(), tmp_path / NETWORKS["squeeze"].file)
    with pytest.raises(WeightsError, match="not a SqueezeNet11 file"):
        load_network("squeeze", tmp_path)


# ----------------------------------------------------------------------------------------------------------------- hub


def test_hub_ids_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(repo: str, file: str) -> str:
        asked.append((repo, file))
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    save(VGG16(), tmp_path / "model.safetensors", format="pt")
    for source in ("hf-hub:timm/vgg16.tv_in1k", "hf-hub:timm/vgg16.tv_in1k/model.safetensors"):
        network = load_network(source)
        assert isinstance(network, VGG16)
        assert network.official
    assert load_network("vgg16", tmp_path / "empty", download=True).official
    assert not load_network("hf-hub:someone/vgg").official
    assert asked == [("timm/vgg16.tv_in1k", "model.safetensors")] * 3 + [("someone/vgg", "model.safetensors")]
    with pytest.raises(WeightsError, match="is missing"):
        load_network("vgg16", tmp_path / "empty")  # not unless asked to
    with pytest.raises(WeightsError, match="is missing"):
        load_network("alex", tmp_path / "empty", download=True)  # is on no hub
    assert len(asked) == 4


def test_offline_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: str) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(WeightsError) as caught:
        load_network("vgg16", tmp_path, download=True)
    for word in (
        "ConnectionError",
        "553 MB",
        "BSD-3-Clause",
        NETWORKS["vgg16"].url,
        str(tmp_path / NETWORKS["vgg16"].file),
    ):
        assert word in str(caught.value)
    with pytest.raises(WeightsError, match=r"hf-hub:a/b: model\.safetensors of a/b could not be fetched"):
        load_network("hf-hub:a/b", tmp_path)


# ---------------------------------------------------------------------------------------------------- with the files


@pytest.mark.weights
@pytest.mark.parametrize("name", ["squeezenet11-keras", "vgg19-distilled", "mobilefacenet", *FILES])
def test_the_stand_ins_are_there_and_are_no_official_ones(name: str) -> None:
    entry = NETWORKS.get(name) or FILES[name]
    if not (SHARED / entry.file).is_file():
        pytest.skip(f"third-party network not here: {SHARED / entry.file}")
    path = locate(name, SHARED)
    assert path.stat().st_size == entry.size
    if isinstance(entry, NetworkEntry):
        for network in (load_network(name, SHARED), load_network(path)):
            assert type(network) is entry.network
            assert not network.official
