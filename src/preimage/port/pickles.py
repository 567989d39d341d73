"""Foreign checkpoints as named tensors: PyTorch zip and legacy files, NVIDIA pickles, safetensors. Nothing in them is executed.

A pickle is a program, and Python's unpickler runs it; NVIDIA's pickles even carry Python source that loading executes. Here a
file is read by a machine that calls nothing (`inert.machine`) and knows a short list of names (`inert.calls`); a file that
asks for anything else is refused, also where the question hides in a storage inside the file. What a file declares is
compared with the bytes it has before anything is allocated; large tensors stay on the mapped file until they are used.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from preimage.errors import WeightsError
from preimage.port.inert.calls import Calls, checked_key
from preimage.port.inert.machine import Machine, Window
from preimage.port.inert.names import Finder
from preimage.port.inert.values import STORAGES, Array, Limits, Name, Storage, TensorView
from preimage.readable import UnreadableError, find_file, why_unreadable
from preimage.texts import one_line

SUFFIXES = (".pt", ".pth", ".pkl", ".safetensors")
MOST_MESSAGE = 1000  # characters of a message that quotes a file
MOST_INDEX = 1 << 24  # bytes of a zip archive's table of contents
MOST_NESTED = 3  # files inside files
_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # how PyTorch's older format starts
_AGAIN = "Download it again and compare its size with the published one."


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        path: the file.
        kind: "torch zip", "torch legacy", "nvidia pickle (torch era)", "nvidia pickle (TensorFlow era)", "pickle" or
            "safetensors".
        tensors: by dotted name; members of lists by their index, parameters and buffers of pickled networks by the names that
            their state_dict would have, variables of TensorFlow networks with dots for slashes. Views on the file: change
            copies of them only.
        about: numbers and short texts by dotted name: options, settings of the networks, steps.
        flat: whether the file is one dictionary of tensors and nothing more, as a state_dict is.
    """

    path: Path
    kind: str
    tensors: dict[str, Tensor]
    about: dict[str, str | int | float | bool] = field(default_factory=dict)
    flat: bool = False


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the tensors of a foreign file.

    Raises:
        UnreadableError: no such file, a folder, no permission, too little memory.
        WeightsError: none of the known kinds, and what it is instead; cut short or damaged; or it asks for something that
            plain weights do not need, such as a system command.
    """
    path, size = find_file(path, SUFFIXES)
    try:
        return _read(path, size)
    except WeightsError as error:
        raise WeightsError(f"{path}: {one_line(error, MOST_MESSAGE)}") from None
    except Exception as error:  # a damaged or hostile file can raise anything
        if reason := why_unreadable(error):
            raise UnreadableError(f"{path}: {reason}") from None
        raise WeightsError(
            f"{path}: cut short or damaged ({size} bytes; {one_line(error)}). Nothing in it was executed. {_AGAIN}"
        ) from None


def _read(path: Path, size: int) -> Checkpoint:
    if not size:
        raise WeightsError(f"is empty. {_AGAIN}")
    with path.open("rb") as file:
        # private copy-on-write pages: tensors on them are writable, the file is not touched
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    if _is_safetensors(data):
        return _read_safetensors(path)
    limits = Limits(size)
    value, kind, seen = _read_value(data, limits, 0)
    found = Finder(limits)
    found.walk(value, "", 0)
    flat = isinstance(value, dict) and bool(value) and all(isinstance(v, TensorView | Array) for v in value.values())
    if kind == "pickle":
        if any(name.startswith("dnnlib.tflib.") for name in seen):
            kind = "nvidia pickle (TensorFlow era)"
        elif any(name.startswith("torch_utils.persistence.") for name in seen):
            kind = "nvidia pickle (torch era)"
    return Checkpoint(path, kind, found.tensors, found.about, flat)


def _read_value(data: memoryview, limits: Limits, depth: int) -> tuple[Any, str, set[str]]:
    """The value of a file of any pickled kind, its kind, and the names it asked for."""
    if depth > MOST_NESTED:
        raise WeightsError("nests files in files; no checkpoint does.")
    calls = Calls(limits, lambda inner: _read_value(inner, limits, depth + 1)[0])
    head = bytes(data[:512])
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(data, calls), "torch zip", calls.seen
    if head.startswith(_MAGIC):
        return _read_legacy(data, calls), "torch legacy", calls.seen
    if what := _something_else(head):
        raise WeightsError(what)
    return Machine(Window(data), calls, _no_storage).load(), "pickle", calls.seen


def _something_else(head: bytes) -> str:
    """What a file is that starts so and is no checkpoint; empty for what may be a pickle."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return "a Git-LFS pointer, not the file it points to. Fetch that with `git lfs pull`, or download it from the web page."
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return (
            "a web page saved under this name, such as a download's confirmation page. Open the link in a browser and save the "
            "file itself."
        )
    for magic, what in _MAGICS.items():
        if head.startswith(magic):
            return f"{what}, not a PyTorch, NVIDIA or safetensors checkpoint. {_OTHER}"
    if head[257:262] == b"ustar":
        return (
            "a tar archive. Unpack it; or, if PyTorch before 0.2 wrote it, load it with a PyTorch of its time and save its "
            "state_dict() again."
        )
    if (head[0] == 0x80 and len(head) > 1 and head[1] <= 5) or head[:1] in b"(]}cNI":
        return ""
    if not any(head):
        return f"starts with zeros: room that was reserved for a download that never came. {_AGAIN}"
    return f"not a PyTorch, NVIDIA or safetensors checkpoint, or its start is missing. {_OTHER}"


_OTHER = "Bring weights as .pt, .pth, .pkl or .safetensors."
_MAGICS = {
    b"\x89HDF": "an HDF5 file (Keras)", b"\x1f\x8b": "a gzip archive (unpack it first)", b"GGUF": "a GGUF file",
    b"7z\xbc\xaf": "a 7z archive (unpack it first)", b"Rar!": "a RAR archive (unpack it first)", b"\x93NUMPY": "a numpy array",
    b"\x89PNG": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture", b"{": "a JSON text", b"PK\x05\x06": "an empty zip archive",
}  # fmt: skip

# ---------------------------------------------------------------------------------------------------- the three formats


def _is_safetensors(data: memoryview) -> bool:
    return len(data) > 9 and struct.unpack("<Q", data[:8])[0] < 1 << 30 and data[8] == ord("{")


def _read_safetensors(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = {key: str(value)[:1000] for key, value in (file.metadata() or {}).items()}
    except SafetensorError as error:
        if why_unreadable(error):
            raise
        raise WeightsError(f"a safetensors file that is cut short or damaged ({one_line(error)}). {_AGAIN}") from None
    return Checkpoint(path, "safetensors", tensors, dict(about), flat=True)


def _no_storage(_: Any) -> Any:
    raise WeightsError("refers to storages as PyTorch's files do, but is none of them.")


def _declared(identity: Any) -> tuple[Storage, str]:
    """The storage that a persistent id declares, and its key: ("storage", type, key, device, count, …)."""
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise WeightsError("refers to something that is no storage.")
    _, kind, key, _, count, *view = identity
    if not isinstance(kind, Name) or kind.dotted not in STORAGES:
        raise WeightsError("refers to a storage of an unknown type.")
    if type(count) is not int or count < 0 or not isinstance(key, str):
        raise WeightsError("refers to a storage whose size is none.")
    if any(part is not None for part in view):
        raise WeightsError("shares storages as PyTorch before 0.4 did. Load and save it again with PyTorch 0.4 to 1.5.")
    return Storage(STORAGES[kind.dotted], count), key


def _read_zip(data: memoryview, calls: Calls) -> Any:
    """PyTorch's format since 1.6: a zip archive of `data.pkl` and one member for each storage."""
    try:
        with zipfile.ZipFile(Window(data, MOST_INDEX)) as archive:  # type: ignore[call-overload]
            members = {info.filename: info for info in archive.infolist()}
    except zipfile.BadZipFile as error:
        raise WeightsError(f"a zip archive that is cut short or damaged ({one_line(error)}). {_AGAIN}") from None
    roots = [name.removesuffix("data.pkl") for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(roots) != 1:
        some = ", ".join(list(members)[:3])
        raise WeightsError(f"a zip archive of {some[:100]}, not a PyTorch file. If a checkpoint is in it, unpack that.")
    (root,) = roots
    if f"{root}constants.pkl" in members:
        raise WeightsError(
            "a TorchScript program, not a file of weights. Load it where it was made and save its state_dict() with torch.save."
        )
    sized = _Archive(data, sum(info.compress_size for info in members.values()))
    order = f"{root}byteorder"
    if order in members and bytes(sized.read(members[order])).strip() != b"little":
        raise WeightsError("written by a big-endian machine. Load and save it again on an ordinary one.")
    storages: dict[str, Storage] = {}

    def persistent(identity: Any) -> Storage:
        storage, key = _declared(identity)
        if key not in storages:
            name = f"{root}data/{key}"
            if storage.count and name not in members:
                raise WeightsError(f"lacks the storage {key[:50]!r}. {_AGAIN}")
            storage.fill(sized.read(members[name]) if storage.count else memoryview(b""))
            storages[key] = storage
        if (storage.dtype, storage.count) != (storages[key].dtype, storages[key].count):
            raise WeightsError(f"declares the storage {key[:50]!r} in two ways.")
        return storages[key]

    return Machine(Window(sized.read(members[f"{root}data.pkl"])), calls, persistent).load()


class _Archive:
    """Members of a zip archive as bytes, on the archive itself where they are not compressed."""

    def __init__(self, data: memoryview, claimed: int):
        if claimed > len(data):
            raise WeightsError("a zip archive whose members overlap, or that is cut short.")
        self.data = data
        self.left = 16 * len(data) + (1 << 26)

    def read(self, info: zipfile.ZipInfo) -> memoryview:
        start = info.header_offset
        header = bytes(self.data[start : start + 30])
        if len(header) < 30 or header[:4] != b"PK\x03\x04" or start < 0:
            raise WeightsError(f"a zip archive that is cut short or damaged. {_AGAIN}")
        start += 30 + sum(struct.unpack("<HH", header[26:]))
        packed = self.data[start : start + info.compress_size]
        if len(packed) < info.compress_size or info.flag_bits & 1:
            raise WeightsError(f"a zip archive that is encrypted, cut short or damaged. {_AGAIN}")
        if info.compress_type == zipfile.ZIP_STORED:
            return packed
        if info.compress_type != zipfile.ZIP_DEFLATED:
            raise WeightsError("a zip archive of an unusual compression. Unpack it, or save the checkpoint again.")
        self.left -= info.file_size
        if self.left < 0:
            raise WeightsError("a zip archive that unpacks to far more than any checkpoint; made to exhaust memory.")
        whole = zlib.decompressobj(-15).decompress(packed, info.file_size + 1)
        if len(whole) != info.file_size:
            raise WeightsError("a zip archive with a member that is larger or smaller than it claims.")
        return memoryview(whole)


def _read_legacy(data: memoryview, calls: Calls) -> Any:
    """PyTorch's format before 1.6: magic number, protocol, machine, the value, storage keys; then the storages."""
    window = Window(data)
    storages: dict[str, Storage] = {}

    def persistent(identity: Any) -> Any:
        if isinstance(identity, tuple) and identity[:1] == ("module",):  # a class, with its source code
            return identity[1]
        storage, key = _declared(identity)
        known = storages.setdefault(key, storage)
        if (storage.dtype, storage.count) != (known.dtype, known.count):
            raise WeightsError(f"declares the storage {key[:50]!r} in two ways.")
        return known

    _, protocol, machine = (Machine(window, calls, _no_storage).load() for _ in range(3))
    if protocol != 1001 or not isinstance(machine, dict) or machine.get("little_endian") is False:
        raise WeightsError("written by an unknown PyTorch, or by a big-endian machine. Load and save it again.")
    value = Machine(window, calls, persistent).load()
    for key in Machine(window, calls, _no_storage).load():
        storage = storages[str(checked_key(key))]
        window.views = True
        (count,) = struct.unpack("<q", window.read(8))
        if count != storage.count:
            raise WeightsError(f"declares the storage {key[:50]!r} in two ways.")
        storage.fill(memoryview(window.read(count * storage.dtype.itemsize)))
        window.views = False
    return value
