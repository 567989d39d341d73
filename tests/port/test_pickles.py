"""Foreign checkpoints: every format is read as PyTorch reads it; nothing in a file is executed or believed."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import mmap
import os
import pickle
import random
import struct
import sys
import tracemalloc
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save, save_file
from torch import Tensor, nn

from preimage.errors import WeightsError
from preimage.port.pickles import read_checkpoint
from preimage.readable import UnreadableError

BIG = torch.arange(3000.0).reshape(50, 60)
TENSORS = {
    "g_ema.a": BIG[3:, ::2],  # a view with steps
    "g_ema.b.c": torch.tensor([1.5, -2.0]).half(),
    "g_ema.turned": BIG.t(),
    "steps.0": torch.arange(3),
    "bf": torch.ones(2, dtype=torch.bfloat16),
    "empty": torch.empty(0, 3),
    "scalar": torch.tensor(3.0),
    "flags": torch.tensor([True, False]),
    "short": torch.tensor([1, 2], dtype=torch.uint16),  # as PyTorch's third way to rebuild a tensor
}
STATE = {
    "g_ema": OrderedDict(a=TENSORS["g_ema.a"], turned=TENSORS["g_ema.turned"])
    | {"b.c": nn.Parameter(TENSORS["g_ema.b.c"])},
    "args": argparse.Namespace(size=256, lr=0.1, name="ffhq", flags=[1, None]),
    "steps": (torch.arange(3), 7),
    **{key: TENSORS[key] for key in ("bf", "empty", "scalar", "flags", "short")},
    "device": torch.device("cpu"),
    "where": Path("a/b"),
    "numpy": np.float32(2.5),
}
ABOUT = {"args.size": 256, "args.lr": 0.1, "args.name": "ffhq", "args.flags.0": 1, "steps.1": 7, "numpy": 2.5}  # fmt: skip


def write(what: Any, path: Path, how: str) -> Path:
    if how == "pickle":
        path.write_bytes(pickle.dumps(what))
    else:
        torch.save(what, path, _use_new_zipfile_serialization=how == "zip")
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.pt"


# ------------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(("how", "kind"), [("zip", "torch zip"), ("legacy", "torch legacy"), ("pickle", "pickle")])
def test_tensors_and_options_come_back(path: Path, how: str, kind: str) -> None:
    found = read_checkpoint(write(STATE, path, how))
    assert found.kind == kind
    assert not found.flat
    assert set(found.tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor), name
    assert {**found.about, **ABOUT} == found.about
    assert found.about["device"] == "cpu"
    assert found.about["where"] == "a/b"


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol(path: Path, protocol: int) -> None:
    arrays = {"c": np.arange(12.0).reshape(3, 4), "f": np.asfortranarray(np.arange(12, dtype=">i4").reshape(3, 4))}
    path.write_bytes(pickle.dumps({"t": torch.arange(5.0), **arrays, "n": np.int64(-3)}, protocol))
    found = read_checkpoint(path)
    assert torch.equal(found.tensors["t"], torch.arange(5.0))
    assert torch.equal(found.tensors["c"], torch.arange(12.0, dtype=torch.float64).reshape(3, 4))
    assert torch.equal(found.tensors["f"], torch.arange(12, dtype=torch.int32).reshape(3, 4))
    assert found.about == {"n": -3}


def test_a_state_dict_is_flat_and_what_it_gives_can_be_changed_without_harm(path: Path) -> None:
    state = nn.Linear(400, 30).state_dict()
    before = write(state, path, "zip").read_bytes()
    found = read_checkpoint(path)
    assert found.flat
    found.tensors["weight"].zero_()  # on a private copy of the file's pages
    assert path.read_bytes() == before
    assert torch.equal(read_checkpoint(path).tensors["weight"], state["weight"])


def test_safetensors(path: Path) -> None:
    save_file({"a.b": torch.arange(3.0)}, path, {"format": "pt", "by": "somebody"})
    found = read_checkpoint(path)
    assert found.kind == "safetensors"
    assert torch.equal(found.tensors["a.b"], torch.arange(3.0))
    assert found.about["by"] == "somebody"
    path.write_bytes(path.read_bytes()[:-4])
    refused(path, "safetensors file that is cut short")


def test_compressed_archives(path: Path) -> None:
    write({"w": BIG}, path, "zip")
    repack(path, zipfile.ZIP_DEFLATED)
    assert torch.equal(read_checkpoint(path).tensors["w"], BIG)
    repack(path, zipfile.ZIP_BZIP2)
    refused(path, "unusual compression")


def repack(path: Path, compression: int, change: Callable[[str, bytes], bytes] = lambda _, data: data) -> None:
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, data in members.items():
            new.writestr(name, change(name, data))


@contextlib.contextmanager
def pretended(**modules: dict[str, Any]) -> Iterator[None]:
    """Modules that pickle finds when it writes; dots are double underscores."""
    made = {}
    for name, members in modules.items():
        name = name.replace("__", ".")
        made[name] = types.ModuleType(name)
        for key, value in members.items():
            value.__module__, value.__qualname__ = name, key
            setattr(made[name], key, value)
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]


class EasyDict(dict[str, Any]):
    """As NVIDIA's, a dictionary with attributes."""


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
    exec(meta["module_src"], {})  # what NVIDIA's function does, in essence


class Persistent:
    """A module as NVIDIA's persistence writes it: its state beside the source code of its class."""

    def __init__(self, name: str, source: str = "", **state: Any):
        self.meta = {"type": "class", "version": 6, "module_src": source, "class_name": name, "state": EasyDict(state)}

    def __reduce__(self) -> tuple[Any, ...]:
        return _reconstruct_persistent_obj, (self.meta,)


NVIDIA: dict[str, dict[str, Any]] = {
    "torch_utils": {}, "torch_utils__persistence": {"_reconstruct_persistent_obj": _reconstruct_persistent_obj},
    "dnnlib": {}, "dnnlib__util": {"EasyDict": EasyDict},
}  # fmt: skip


def test_nvidia_networks_are_named_as_their_state_dict_would_be_and_their_source_stays_text(
    path: Path, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    source = f"import os; os.system('touch {canary}')"
    layer = Persistent("Layer", source, _parameters=OrderedDict(weight=nn.Parameter(BIG), bias=None), _buffers=OrderedDict(),
                       _modules=OrderedDict(), training=False, activation="lrelu", _forward_hooks=OrderedDict())  # fmt: skip
    network = Persistent("Generator", source, _parameters=OrderedDict(), _buffers=OrderedDict(w_avg=torch.ones(3)),
                         _modules=OrderedDict(b4=layer), _init_kwargs=EasyDict(z_dim=512), img_resolution=8)  # fmt: skip
    with pretended(**NVIDIA):
        for protocol in range(2, 6):
            path.write_bytes(pickle.dumps({"G_ema": network, "augment_pipe": None}, protocol))
            found = read_checkpoint(path)
            assert found.kind == "nvidia pickle (torch era)"
            assert set(found.tensors) == {"G_ema.w_avg", "G_ema.b4.weight"}
            assert torch.equal(found.tensors["G_ema.b4.weight"], BIG)
            assert found.about == {
                "G_ema.class_name": "Generator", "G_ema.init_kwargs.z_dim": 512, "G_ema.img_resolution": 8,
                "G_ema.b4.class_name": "Layer", "G_ema.b4.activation": "lrelu", "G_ema.b4.training": False,
            }  # fmt: skip
            assert not canary.exists()
        pickle.loads(path.read_bytes())  # the control: Python's own unpickler runs it
        assert canary.exists()


# ------------------------------------------------------------------------------------------------------------- refusals


def refused(path: Path, match: str) -> None:
    """Refused by name and without using memory."""
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match=match) as caught:
            read_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) == 1


class Payload:
    """Calls something when it is unpickled."""

    def __init__(self, call: Any, *args: Any, state: Any = None):
        self.reduced = (call, args) if state is None else (call, args, state)

    def __reduce__(self) -> Any:
        return self.reduced

    def __call__(self) -> None:
        """Pickle wants something callable where this stands for a function."""


def touch(canary: Path) -> Payload:
    return Payload(os.system, f"touch {canary}")


def in_storage(payload: Any, zipped: bool) -> Payload:
    """A tensor whose storage is a file with a payload inside."""
    inner = io.BytesIO()
    torch.save({"x": payload}, inner, _use_new_zipfile_serialization=zipped)
    storage = Payload(torch.storage._load_from_bytes, inner.getvalue())
    return Payload(torch._utils._rebuild_tensor_v2, storage, 0, (1,), (1,), False, OrderedDict())


HOSTILE: dict[str, Callable[[Path], Any]] = {
    "system": touch,
    "eval": lambda c: Payload(eval, f"__import__('os').system('touch {c}')"),
    "exec": lambda c: Payload(exec, f"open({str(c)!r}, 'w')"),
    "getattr": lambda c: Payload(Payload(getattr, Payload(__import__, "os"), "system"), f"touch {c}"),
    "open": lambda c: Payload(open, str(c), "w"),
    "torch.load": lambda c: Payload(torch.load, str(c)),
    "pickle.loads": lambda c: Payload(pickle.loads, pickle.dumps(touch(c))),
    "nested in a zip storage": lambda c: in_storage(touch(c), True),
    "nested in a legacy storage": lambda c: in_storage(touch(c), False),
    "nested twice": lambda c: in_storage(in_storage(touch(c), True), False),
    "numpy object array": lambda c: np.array([touch(c)], dtype=object),
    "numpy scalar": lambda c: Payload(np.float32(1).__reduce__()[0], np.dtype("O"), touch(c)),
    "numpy scalar of a payload": lambda c: Payload(np.float32(1).__reduce__()[0], np.dtype("f4"), touch(c)),
    "dtype state": lambda c: Payload(np.dtype, "f4", False, True, state=(3, "<", None, touch(c), None, -1, -1, 0)),
    "type of a tensor": lambda c: Payload(torch._tensor._rebuild_from_type_v2, os.system, Tensor, (f"touch {c}",), {}),
    "option": lambda c: argparse.Namespace(size=touch(c)),
    "key": lambda c: {touch(c): 1},
}  # fmt: skip


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_files_are_refused_and_nothing_runs(path: Path, tmp_path: Path, hostile: str, how: str) -> None:
    canary = tmp_path / "canary"
    refused(write({"w": BIG, "x": HOSTILE[hostile](canary)}, path, how), "asks for|has a|holds|rebuilds|number")
    assert not canary.exists()


def test_the_canary_sings_for_pythons_own_unpickler(tmp_path: Path) -> None:
    for i, make in enumerate((touch, lambda c: in_storage(touch(c), True), lambda c: in_storage(touch(c), False))):
        with contextlib.suppress(AttributeError):  # what the storage holds is none, but by then it is too late
            pickle.loads(pickle.dumps(make(tmp_path / f"canary{i}")))
        assert (tmp_path / f"canary{i}").exists()


def test_the_message_names_what_was_asked_for_and_what_to_do(path: Path, tmp_path: Path) -> None:
    refused(
        write(touch(tmp_path / "canary"), path, "zip"),
        r"asks for '(posix|nt)\.system'.*Nothing in it was executed.*state_dict",
    )


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_every_truncation_and_many_damages_end_in_one_error(path: Path, how: str) -> None:
    whole = write({"w": torch.arange(40.0), "args": argparse.Namespace(a=1)}, path, how).read_bytes()
    rng = random.Random(0)
    for _ in range(60):
        path.write_bytes(whole[: rng.randrange(len(whole) - 1)])
        with pytest.raises(WeightsError, match=r"a\.pt: "):
            read_checkpoint(path)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        with contextlib.suppress(WeightsError):
            assert all(tensor.numel() <= 40 for tensor in read_checkpoint(path).tensors.values())


@pytest.mark.parametrize(
    ("head", "match"),
    [
        (b"", "starts with zeros"),
        (b"PK\x03\x04", "zip archive that is cut short"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "cut short or damaged"),
        (b"\x80\x04X\xff\xff\xff\x6f", "declares a text"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 10**12), "cut short"),
        (b"\x80\x04B" + struct.pack("<I", 2**30) + b"\x00", "cut short or damaged"),
        (struct.pack("<Q", 2**29) + b"{", "safetensors"),
        (b"(V", "without an end"),
    ],
)
def test_a_sparse_file_of_two_gigabytes(path: Path, head: bytes, match: str) -> None:
    path.write_bytes(head)
    os.truncate(path, 2**31)
    refused(path, match)


def view(count: int, *args: Any) -> Payload:
    storage = torch.arange(float(count)).untyped_storage()
    return Payload(torch._utils._rebuild_tensor_v2, torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True), *args, False, OrderedDict())  # fmt: skip


@pytest.mark.parametrize(
    "tensor",
    [
        view(4, 0, (10**12,), (0,)), view(4, 0, (10**6, 10**6), (1, 1)), view(4, 0, (5,), (1,)), view(4, 3, (2,), (1,)),
        view(4, 0, (2, 2), (3, 1)), view(4, -1, (2,), (1,)), view(4, 0, (-2,), (1,)), view(4, 0, (2,), (-1,)),
        view(4, 0, (2, 2), (1,)), view(4, 0, (1.0,), (1,)), view(4, 0, (1,) * 40, (1,) * 40), view(4, 2**62, (1,), (1,)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("how", ["zip", "legacy"])
def test_tensors_that_reach_beyond_their_storage(path: Path, tensor: Payload, how: str) -> None:
    refused(write({"w": tensor}, path, how), "declares|cut short or damaged")


def test_sizes_that_the_file_does_not_have(path: Path) -> None:
    write({"w": BIG}, path, "zip")
    whole = path.read_bytes()
    repack(
        path,
        0,
        lambda name, data: (
            data.replace(struct.pack("<H", 3000), struct.pack("<H", 60000)) if name.endswith(".pkl") else data
        ),
    )
    refused(path, "declares 60000 numbers where it has 12000 bytes")
    legacy = write({"w": BIG}, path, "legacy").read_bytes()
    path.write_bytes(legacy.replace(struct.pack("<q", 3000), struct.pack("<q", 10**12)))
    refused(path, "in two ways")
    array = pickle.dumps(np.zeros(7, np.float32), 4)
    path.write_bytes(array.replace(b"K\x07\x85", b"J\xff\xff\xff\x7f\x85"))
    refused(path, "declares an array of 2147483647 where it has 28 bytes")
    path.write_bytes(whole.replace(b"little", b"big\n\n\n"))
    refused(path, "big-endian")


def test_archives_that_lie(path: Path) -> None:
    write({"w": torch.zeros(200_000)}, path, "zip")
    repack(path, zipfile.ZIP_DEFLATED)
    data = path.read_bytes()
    claimed, less = struct.pack("<I", 800_000), struct.pack("<I", 1_000)
    assert data.count(claimed) == 2
    path.write_bytes(data.replace(claimed, less))
    refused(path, "larger or smaller than it claims")
    write({"w": torch.zeros(30_000_000)}, path, "zip")
    repack(path, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 200_000
    refused(path, "unpacks to far more")


def test_walking_what_repeats_itself_is_bounded(path: Path) -> None:
    laughs: Any = [torch.zeros(1)]
    for _ in range(40):
        laughs = [laughs, laughs]
    refused(write(laughs, path, "zip"), "more than 20,000 tensors")
    loop: list[Any] = []
    loop.append(loop)
    refused(write(loop, path, "legacy"), "nests deeper")
    inner = io.BytesIO()
    torch.save(torch.zeros(2**18).untyped_storage(), inner)
    once, rebuild = inner.getvalue(), torch._utils._rebuild_tensor_v2  # a mebibyte that is asked for a hundred times
    tensors = [
        Payload(rebuild, Payload(torch.storage._load_from_bytes, once), 0, (2**20,), (1,), False, OrderedDict())
        for _ in range(100)
    ]
    write(tensors, path, "pickle")
    assert path.stat().st_size < 2**21
    refused(path, "more memory or work")


@pytest.mark.parametrize("how", ["zip", "legacy"])
def test_names_of_one_storage_are_counted(path: Path, how: str) -> None:
    once = torch.zeros(1 << 20).half()  # two megabytes that would become 240 as float32
    write({f"layer{i}.weight": once for i in range(60)}, path, how)
    assert path.stat().st_size < 2.2e6
    refused(path, "names the same numbers again and again.*one name for each tensor")
    write({f"layer{i}.weight": once[i:] for i in range(60)}, path, how)
    refused(path, "names the same numbers again and again")
    write([once.untyped_storage()] * 60, path, how)  # bytes without a shape
    refused(path, "names the same numbers again and again")


@pytest.mark.parametrize("how", ["zip", "legacy"])
def test_tied_tensors_and_views_of_one_row_come_back(path: Path, how: str) -> None:
    flat = torch.arange(1 << 19).half()
    parts = {f"part{i}": part for i, part in enumerate(flat.split(1 << 13))}
    state = {**parts, "whole": flat, "tied": {"to": {"it": flat, "too": flat}, "end": flat[-5:]}}
    found = read_checkpoint(write(state, path, how)).tensors
    assert len(found) == len(parts) + 4
    for name, part in parts.items():
        assert torch.equal(found[name], part)
    for name in ("whole", "tied.to.it", "tied.to.too"):
        assert torch.equal(found[name], flat)
    assert torch.equal(found["tied.end"], flat[-5:])


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\n<html lang=en>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git-LFS pointer.*git lfs pull"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x93NUMPY", "numpy"),
        (b'{"error": "not found"}', "JSON"),
        (b"hello", "not a PyTorch, NVIDIA or safetensors checkpoint"),
        (b"\x80\x09.", "not a PyTorch"),
    ],
)
def test_files_that_are_something_else(path: Path, content: bytes, match: str) -> None:
    path.write_bytes(content)
    refused(path, match)


def test_archives_of_something_else(path: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    refused(tmp_path / "a.npz", "zip archive of x.npy")
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("constants.pkl", "data.pkl", "code/__torch__.py"):
            archive.writestr(f"net/{name}", pickle.dumps(()))
    refused(path, "TorchScript")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a\nb\r\u2028c", b"")
    refused(path, "zip archive of a b c, not")


# ------------------------------------------------------------------------------------- what cannot be read, whatever it is


def unreadable(path: Path, match: str) -> None:
    with pytest.raises(UnreadableError, match=match) as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["zip", "safetensors"])
@pytest.mark.parametrize(
    ("error", "match"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), r"no permission to read it.*chmod \+r"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "takes more memory to read than there is"),
        (MemoryError(), "takes more memory to read than there is"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory\nframe #0\nframe #1"), "takes more memory to read"),
        (OSError(errno.EIO, "Input/output error"), "cannot be read .Input/output error.*disk"),
    ],
)
def test_what_keeps_a_file_from_being_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, error: Exception, match: str
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    path.write_bytes(INTACT[kind])
    with monkeypatch.context() as patch:
        patch.setattr(mmap, "mmap", fail)
        unreadable(path, match)
    if isinstance(error, PermissionError):
        monkeypatch.setattr(Path, "open", fail)
        unreadable(path, match)


def test_safetensors_that_lack_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise SafetensorError("I/O error: Cannot allocate memory (os error 12)")

    path.write_bytes(INTACT["safetensors"])
    monkeypatch.setattr("safetensors.safe_open", fail)
    unreadable(path, "takes more memory to read than there is")


# ------------------------------------------------------------------------------------------------------- damaged at random


def bytes_of(what: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(what, file, **how)
    return file.getvalue()


SMALL = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2).half(), "n": {"steps": 3}}
INTACT = {
    "zip": bytes_of(SMALL),
    "legacy": bytes_of(SMALL, _use_new_zipfile_serialization=False),
    "pickle": pickle.dumps({**SMALL, "a": np.arange(3)}),
    "safetensors": save({"w": SMALL["w"], "b": SMALL["b"]}, {"by": "somebody"}),
}


@pytest.mark.parametrize("kind", INTACT)
def test_damaged_at_random(tmp_path_factory: pytest.TempPathFactory, kind: str) -> None:
    path, intact = tmp_path_factory.mktemp("damaged") / "a.pt", INTACT[kind]
    places = st.integers(0, len(intact) - 1)

    @given(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8), places | st.just(len(intact)))
    @example([], len(intact))
    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    def reads_or_says_why(changes: list[tuple[int, int]], end: int) -> None:
        data = bytearray(intact)
        for place, value in changes:
            data[place] = value
        path.write_bytes(data[:end])
        said, names = f"{path}: ", set()
        try:
            names = set(read_checkpoint(path).tensors)
        except WeightsError as error:
            said = str(error)
        assert said.startswith(f"{path}: ")
        assert len(said.splitlines()) == 1
        assert len(said) < 1500
        assert data[:end] != intact or {"w", "b"} <= names

    reads_or_says_why()


def test_a_bare_value_is_not_all_that_is_said(path: Path) -> None:
    path.write_bytes(b"\x80\x02j\xff\xff\xff\xff.")
    refused(path, "8 bytes; recalls its value 4294967295, which it never kept")
    path.write_bytes(b"\x80\x02)\x85\x93.")
    refused(path, "cut short or damaged .6 bytes; IndexError: pop from empty list")
