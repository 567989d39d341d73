"""The networks that measure, as data: which file each reads, whence it comes, its size and licence, and where it is put.

None of them is shipped. A network is named by an entry of the table, by the path of a safetensors file, or by a hub id
(`hf-hub:owner/repo[/file]`). Published PyTorch files (.pth) are converted once: `preimage models convert FILE`.

Entries with `official` give the published metrics (LPIPS, FID) where their file has the published weights. The others stand
in for them: small public networks that rank pictures alike, whose values are named after them and are no LPIPS or FID.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from preimage.errors import WeightsError
from preimage.nets.features import FeatureNetwork, SqueezeNet, VGG19Distilled
from preimage.nets.inception import FIDInception
from preimage.nets.mobilefacenet import MobileFaceNet
from preimage.nets.trunks import VGG16, AlexNet, SqueezeNet11
from preimage.readable import UnreadableError, find_file, why_unreadable
from preimage.texts import one_line
from preimage.weight_files import sha256
from preimage.weights import download as fetch

FORMAT = "preimage-network-1"


@dataclass(frozen=True)
class FileEntry:
    """A file that somebody else publishes and a metric reads.

    Attributes:
        name: what a user types.
        file: what it is called in the folder of weights.
        url: the public original, or the repository that a stand-in was taken from.
        size: of the original in bytes; of a stand-in, as safetensors.
        licence: of the weights.
    """

    name: str
    file: str
    url: str
    size: int
    licence: str

    @property
    def source(self) -> str:
        """File name of the public original."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class NetworkEntry(FileEntry):
    """A feature network and its file.

    Attributes:
        network: its class.
        label: distances in its features are called `fd-<label>` and `kd-<label>`.
        sha256: of the published files, whole or the first digits; several where the same weights were published anew.
        hub: `owner/repo/file` that holds the same weights as safetensors; empty for none.
        official: whether the published file gives a published metric.
    """

    network: type[FeatureNetwork]
    label: str
    sha256: tuple[str, ...] = ()
    hub: str = ""
    official: bool = False

    def is_published(self, digest: str) -> bool:
        """Whether a file of this sha256 is one of the published ones."""
        return any(digest.startswith(known) for known in self.sha256)


_TORCH = "https://download.pytorch.org/models/"
_GITHUB = "https://github.com/"
_TORCHVISION = "BSD-3-Clause (torchvision; trained on ImageNet)"
NETWORKS: dict[str, NetworkEntry] = {
    entry.name: entry
    for entry in (
        NetworkEntry(
            "alex", "alexnet-torchvision.safetensors", _TORCH + "alexnet-owt-7be5be79.pth", 244_408_911, _TORCHVISION,
            AlexNet, "alex", ("7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",), official=True,
        ),
        NetworkEntry(
            "vgg16", "vgg16-torchvision.safetensors", _TORCH + "vgg16-397923af.pth", 553_433_881, _TORCHVISION,
            VGG16, "vgg16",
            (
                "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
                "57b026918159a6bf9faf8405c3a551903768e7138989d9c6224a14227203fad8",  # the hub's safetensors
            ),
            "timm/vgg16.tv_in1k/model.safetensors", official=True,
        ),
        NetworkEntry(
            "squeeze", "squeezenet11-torchvision.safetensors", _TORCH + "squeezenet1_1-b8a52dc0.pth", 4_958_839,
            _TORCHVISION, SqueezeNet11, "squeezenet11",
            ("b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b", "f364aa15"),  # saved anew in 2021
            official=True,
        ),
        NetworkEntry(
            "inception", "inception-fid.safetensors",
            _GITHUB + "mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
            95_628_359, "Apache-2.0 (pytorch-fid; Google's inception-2015-12-05)", FIDInception, "inception",
            ("6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",), official=True,
        ),
        NetworkEntry(
            "squeezenet11-keras", "squeezenet11-keras.safetensors", _GITHUB + "DeepCognition/keras-squeezenet",
            2_894_384, "MIT", SqueezeNet, "squeeze",
        ),
        NetworkEntry(
            "vgg19-distilled", "vgg19-distilled-relu5_1.safetensors", _GITHUB + "MingSun-Tse/Collaborative-Distillation",
            3_859_768, "MIT", VGG19Distilled, "vgg",
        ),
        NetworkEntry(
            "mobilefacenet", "mobilefacenet-128d.safetensors", _GITHUB + "Xiaoccer/MobileFaceNet_Pytorch",
            4_106_848, "none stated", MobileFaceNet, "identity",
        ),
    )
}  # fmt: skip
"""Feature networks by name."""

FILES: dict[str, FileEntry] = {
    entry.name: entry
    for entry in (
        FileEntry(
            "niqe-pristine", "niqe-pristine.npz",
            _GITHUB + "XPixelGroup/BasicSR/raw/master/basicsr/metrics/niqe_pris_params.npz", 11_850, "Apache-2.0",
        ),
        FileEntry(
            "landmarks68", "landmarks68-slim160.onnx",
            _GITHUB + "ainrichman/Peppa-Facial-Landmark-PyTorch/raw/master/pretrained_weights/slim_160_latest.onnx",
            973_972, "Apache-2.0",
        ),
    )
}  # fmt: skip
"""Other files by name."""


def weights_folder(folder: str | Path | None = None) -> Path:
    """Where files are looked for: the given folder, else $PREIMAGE_WEIGHTS, else ~/.cache/preimage/weights."""
    return Path(folder or os.environ.get("PREIMAGE_WEIGHTS") or "~/.cache/preimage/weights").expanduser()


def locate(name: str, folder: str | Path | None = None) -> Path:
    """The file of an entry of `NETWORKS` or `FILES`.

    Raises:
        WeightsError: unknown name, or the file is not there; the message says which file is missing, its size and licence,
            where it is published, and what to do with it. Or it may not be read.
    """
    entry = NETWORKS.get(name) or FILES.get(name)
    if entry is None:
        raise WeightsError(f"{name}: no such entry; there are {', '.join([*NETWORKS, *FILES])}.")
    path = weights_folder(folder) / entry.file
    if not _exists(path):
        raise WeightsError(f"{name}: {path} is missing. {how_to_get(entry, path)}")
    return find_file(path, (path.suffix,))[0]


def _exists(path: Path) -> bool:
    """Whether anything is there, be it a folder or behind a door that is locked."""
    try:
        return path.exists()
    except OSError:
        return True


def how_to_get(entry: FileEntry, path: Path) -> str:
    """What to do when a file is not there, in whole sentences."""
    size = f"{entry.size / 1e6:.3g} MB"
    folders = f"Other folders can be named in PREIMAGE_WEIGHTS; now it is {path.parent}."
    if not isinstance(entry, NetworkEntry):
        return f"Download {entry.url} ({size}, licence: {entry.licence}) and save it as {path}. {folders}"
    if not entry.official:
        return (
            f"It is a network of {entry.url} ({size}, licence: {entry.licence}), as safetensors with the keys of "
            f"{entry.network.__module__}.{entry.network.__name__}; put it there. {folders}"
        )
    hub = f", or name hf-hub:{entry.hub} to have it fetched" if entry.hub else ""
    return (
        f"Download {entry.url} ({size}, licence: {entry.licence}) and run "
        f"`preimage models convert {entry.source} -o {path}`{hub}. {folders}"
    )


def load_network(source: str | Path, folder: str | Path | None = None, download: bool = False) -> FeatureNetwork:
    """Read a feature network, frozen and in eval mode.

    Args:
        source: an entry of `NETWORKS`, the path of a safetensors file, or `hf-hub:owner/repo[/file]`.
        folder: where the files of entries are, see `weights_folder`.
        download: whether an entry whose file is missing may be fetched from the hub; a hub id always is.

    Returns:
        The network; `official` says whether its weights are the published ones. That is known of a file that
        `preimage models convert` wrote from a published file, of the hub file in the table, and of its copies.

    Raises:
        WeightsError: no such file or entry, a file of no known network, or a pickle.
    """
    source = str(source)
    if source in NETWORKS:
        entry = NETWORKS[source]
        path = weights_folder(folder) / entry.file
        if _exists(path) or not (download and entry.hub):
            return _read(locate(source, folder), entry)
        source = f"hf-hub:{entry.hub}"
    if source.startswith("hf-hub:"):
        return _from_hub(source, folder)
    path = Path(os.path.expanduser(source))
    if not _exists(path):
        raise WeightsError(
            f"{source}: neither a network ({', '.join(NETWORKS)}) nor a file. Give one of these names, the path of a "
            "safetensors file, or hf-hub:owner/repo."
        )
    find_file(path, (".safetensors",))
    return _read(path, _entry_of(path))


def _from_hub(source: str, folder: str | Path | None) -> FeatureNetwork:
    """A network by hub id; the repositories of the table are official."""
    repo = "/".join(source.removeprefix("hf-hub:").split("/")[:2])
    known = next((entry for entry in NETWORKS.values() if entry.hub.startswith(f"{repo}/")), None)
    try:
        path = fetch(source, "model.safetensors")
    except WeightsError as error:
        if known is None:
            raise
        raise WeightsError(f"{error} {how_to_get(known, weights_folder(folder) / known.file)}") from None
    if known is not None and source.removeprefix("hf-hub:") in (repo, known.hub):
        network = known.network.from_file(path)
        network.official = known.official
        return network
    return _read(path, _entry_of(path))


def _read(path: Path, entry: NetworkEntry) -> FeatureNetwork:
    _check_readable(path)
    network = entry.network.from_file(path)
    if entry.official:
        about = metadata(path)
        converted = about.get("format") == FORMAT and about.get("network") == entry.name
        network.official = entry.is_published(about.get("source_sha256", "") if converted else sha256(path))
    return network


def metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says about itself; empty for one that says nothing.

    Raises:
        WeightsError: not a safetensors file, or one that may not be read.
    """
    with _opened(path) as file:
        return dict(file.metadata() or {})


def _check_readable(path: Path) -> None:
    try:
        find_file(path, (path.suffix,))[0].open("rb").close()
    except OSError as error:
        raise UnreadableError(f"{path}: {why_unreadable(error) or one_line(error)}") from None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    _check_readable(path)  # safetensors says of any file that it cannot open that there is none
    try:
        with safe_open(str(path), "pt") as file:
            yield file
    except (SafetensorError, OSError, MemoryError) as error:
        if reason := why_unreadable(error):
            raise UnreadableError(f"{path}: {reason}") from None
        raise WeightsError(
            f"{path}: not a readable safetensors file ({one_line(error)}). Published PyTorch files are converted first: "
            f"`preimage models convert {path.name}`."
        ) from None


def _entry_of(path: Path) -> NetworkEntry:
    """Which network a file holds, by its tensors."""
    with _opened(path) as file:
        entry = identify({key: tuple(file.get_slice(key).get_shape()) for key in file.keys()})  # noqa: SIM118
    if entry is None:
        raise WeightsError(f"{path}: its tensors are those of no network known here ({', '.join(NETWORKS)}).")
    return entry


def identify(shapes: Mapping[str, tuple[int, ...]]) -> NetworkEntry | None:
    """Which network has tensors of these names and shapes, apart from those that its class passes over; None for no one."""
    for entry in NETWORKS.values():
        with torch.device("meta"):
            needed = {key: tuple(value.shape) for key, value in entry.network().state_dict().items()}
        if _needed(entry, shapes) == _needed(entry, needed):
            return entry
    return None


def _needed(entry: NetworkEntry, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Without what the class ignores and without counters, which not every file has."""
    return {
        key: shape
        for key, shape in shapes.items()
        if not entry.network.ignored(key) and not key.endswith("num_batches_tracked")
    }
