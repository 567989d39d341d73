"""Published PyTorch files of feature networks -> safetensors that say what they are; nothing in a file is executed.

The networks behind LPIPS and FID are published as pickles (.pth). Each is converted once:

    curl -LO https://download.pytorch.org/models/alexnet-owt-7be5be79.pth
    preimage models convert alexnet-owt-7be5be79.pth

Which network it is shows from its tensors. Whether it is *the* published one shows from its sha256, which the safetensors file
keeps: only such a file gives values called "lpips-alex" or "fid". A network of the same shape with other weights is converted
too, and its values carry a star. Classifiers are left behind, where the network does not count them as its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from preimage.errors import WeightsError
from preimage.feature_networks import FORMAT, NETWORKS, NetworkEntry, identify, weights_folder
from preimage.files import write_bytes_atomic
from preimage.port.pickles import MOST_MESSAGE, SUFFIXES, Checkpoint, read_checkpoint
from preimage.readable import UnreadableError, find_file
from preimage.texts import one_line
from preimage.weight_files import sha256

_INCEPTION = "Mixed_7c.branch_pool.conv.weight"


@dataclass(frozen=True)
class Converted:
    """What became of a file.

    Attributes:
        path: the safetensors file.
        entry: which network it is.
        official: whether it was the published file.
    """

    path: Path
    entry: NetworkEntry
    official: bool

    def __str__(self) -> str:
        says = (
            f"the published {self.entry.source}"
            if self.official
            else "not the published weights, so its values carry a star, or another name than FID"
        )
        return f"{self.path}: {self.entry.name}, {says}. Licence: {self.entry.licence}."


def convert(path: str | Path, out: str | Path | None = None, checkpoint: Checkpoint | None = None) -> Converted:
    """Turn a published PyTorch file of a feature network into safetensors.

    Args:
        path: the .pth file.
        out: the safetensors file, or a folder; None for the file that `load_network` looks for. Replaced at once or not at
            all.
        checkpoint: what `read_checkpoint` gave, where the file is already read.

    Raises:
        WeightsError: no such file, no PyTorch file of plain tensors, or of no network that is known here.
        OutputError: the result cannot be written.
    """
    from safetensors.torch import save

    path, _ = find_file(path, SUFFIXES)
    state = _flat(checkpoint or _read(path))
    entry = _entry(state)
    if entry is None:
        raise WeightsError(f"{path}: {_what_else(state)}")
    digest = sha256(path)
    official = entry.official and entry.is_published(digest)
    target = weights_folder() / entry.file if out is None else Path(out).expanduser()
    target = target / entry.file if target.is_dir() else target
    if target.resolve() == path.resolve():
        raise WeightsError(f"{path}: would be replaced by its own conversion; name another file with -o.")
    about = {
        "format": FORMAT,
        "network": entry.name,
        "source": path.name,
        "source_sha256": digest,
        "official": str(official).lower(),
        "licence": entry.licence,
    }
    kept = {key: value.detach().clone().contiguous() for key, value in state.items() if not entry.network.ignored(key)}
    write_bytes_atomic(target, save(kept, about))
    return Converted(target, entry, official)


def measures(checkpoint: Checkpoint) -> bool:
    """Whether a file is for `convert`: a network that measures, or one that is easily taken for it."""
    return checkpoint.flat and (_INCEPTION in checkpoint.tensors or _entry(checkpoint.tensors) is not None)


def _entry(state: Mapping[str, Tensor]) -> NetworkEntry | None:
    return identify({key: tuple(value.shape) for key, value in state.items()})


def _read(path: Path) -> Checkpoint:
    try:
        return read_checkpoint(path)
    except UnreadableError:
        raise
    except WeightsError as error:
        reason = one_line(error, MOST_MESSAGE).removeprefix(f"{path}: ")
        raise WeightsError(
            f"{path}: not a PyTorch file of plain tensors, or a damaged one ({reason}) Nothing in "
            f"it was executed. Published networks that can be converted: {_known()}."
        ) from None


def _flat(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The tensors of a file that is one flat list of them."""
    if not checkpoint.flat:
        raise WeightsError(
            f"{checkpoint.path}: is no flat list of named tensors, such as published networks are ({checkpoint.kind} with "
            f"{len(checkpoint.tensors)} tensors). These can be converted: {_known()}."
        )
    return checkpoint.tensors


def _what_else(state: dict[str, Tensor]) -> str:
    """What a file is that is none of ours, as far as its names tell."""
    if _INCEPTION in state:
        inception = NETWORKS["inception"]
        return (
            "an Inception v3, but not the one of FID, whose classifier has 1,008 classes and no auxiliary one. "
            f"Download {inception.url} and convert that."
        )
    names = ", ".join(" ".join(name.split())[:60] for name in list(state)[:3])
    return f"{len(state)} tensors ({names}, …) that are no network known here. These can be converted: {_known()}."


def _known() -> str:
    return ", ".join(entry.source for entry in NETWORKS.values() if entry.official)
