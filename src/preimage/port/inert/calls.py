"""What stands for a call in a pickle. Nothing here runs code from a file.

A pickle names functions and classes and says what to call with what. Here a name stays a name: `Calls.find` knows a short
list of them, `Calls.build` turns a call into data by a function of this file, and everything else is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from preimage.errors import WeightsError
from preimage.port.inert.values import (
    ELEMENTS,
    STORAGES,
    Array,
    DType,
    Limits,
    Name,
    Record,
    Storage,
    TensorView,
    counts,
)

MOST_KEY = 1000  # characters


def checked_key(value: Any) -> Any:
    """A key of a dictionary or a member of a set: hashing or printing anything deeper could overflow stack or memory."""
    if _is_plain(value) or (type(value) is tuple and len(value) <= 8 and all(_is_plain(v) for v in value)):
        return value
    raise WeightsError(f"uses a {type(value).__name__} as a key that is none.")


def _is_plain(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return len(value) <= MOST_KEY
    return value is None or isinstance(value, int | float | Name)


class Calls:
    """What the calls of one file stand for.

    Args:
        limits: of the whole file.
        nested: reads a file inside the file (`torch.storage._load_from_bytes`), by the same rules.

    Attributes:
        seen: dotted names that the file asked for.
    """

    def __init__(self, limits: Limits, nested: Callable[[memoryview], Any]):
        self.limits, self.nested = limits, nested
        self.seen: set[str] = set()

    def find(self, module: str, name: str) -> Name:
        """A name that a file asks for.

        Raises:
            WeightsError: it is none of the few that plain weights need.
        """
        dotted = f"{module}.{name}"
        for old, new in _SAME:
            dotted = new + dotted.removeprefix(old) if dotted.startswith(old) else dotted
        if dotted not in BUILDERS and dotted not in _PASSIVE and not dotted.startswith(_RECORDED):
            raise WeightsError(
                f"asks for {dotted[:100]!r}, which no file of plain weights needs. Nothing in it was executed. If you trust "
                "whoever made it, ask for its state_dict() alone, saved as safetensors or with torch.save."
            )
        self.seen.add(dotted)
        return Name(dotted)

    def build(self, name: Any, args: Any) -> Any:
        """What stands for the call of a name with arguments."""
        if not isinstance(name, Name) or not isinstance(args, tuple):
            raise WeightsError("calls something that is no function.")
        if name.dotted in BUILDERS:
            return BUILDERS[name.dotted](self, *args)
        return Record(name.dotted, {"arguments": args} if args else ())

    def set_state(self, value: Any, state: Any) -> None:
        """What a file says of an object after it was made."""
        if isinstance(value, Array):
            _, shape, dtype, value.fortran, value.data = state
            value.dtype, value.shape = _is(dtype, DType), _is(shape, tuple)
        elif isinstance(value, DType):
            if state[1] not in ("<", ">", "|", "="):
                raise WeightsError("names a byte order that is none.")
            value.order = ">" if state[1] == ">" else "<"
        elif isinstance(value, Record):
            for part in state if isinstance(state, tuple) else (state,):  # with and without slots
                if isinstance(part, dict):
                    self.limits.spend(operations=len(part))
                    value.update(part)
        elif not isinstance(value, dict | TensorView):  # their attributes, as a state_dict's _metadata, are no weights
            raise WeightsError(f"sets the state of a {type(value).__name__}.")


def _is(value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds):
        raise WeightsError(f"has a {type(value).__name__} where a {kinds[0].__name__} belongs.")
    return value


def _view(calls: Calls, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> TensorView:
    return TensorView(_is(storage, Storage), offset, _is(size, tuple), _is(stride, tuple), storage.dtype)


def _retyped(
    calls: Calls, storage: Any, offset: Any, size: Any, stride: Any, _: Any, __: Any, dtype: Any, *___: Any
) -> Any:
    return TensorView(
        _is(storage, Storage), offset, _is(size, tuple), _is(stride, tuple), ELEMENTS[_is(dtype, Name).dotted]
    )


def _dtype(calls: Calls, code: Any, *_: Any) -> DType:
    order = ">" if _is(code, str).startswith(">") else "<"
    code = code.lstrip("<>=|")
    if code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1", "c8", "c16"):
        raise WeightsError(f"holds an array of {code[:20]!r}, which are no numbers.")
    return DType(code, order)


def _scalar(calls: Calls, dtype: Any, data: Any) -> Any:
    kind = _is(dtype, DType).numpy
    data = data.encode("latin-1") if isinstance(data, str) else data
    if len(data) != kind.itemsize:
        raise WeightsError("holds a number of another size than it declares.")
    return np.frombuffer(data, kind)[0].item()


def _from_buffer(calls: Calls, data: Any, dtype: Any, shape: Any, order: Any) -> Array:
    return Array(_is(dtype, DType), _is(shape, tuple), data, order == "F")


def _encode(calls: Calls, text: Any, encoding: Any = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise WeightsError("encodes text in a way that plain weights do not.")
    data: bytes = _is(text, str).encode("latin-1")
    calls.limits.spend(memory=len(data))
    return data


def _bytes(calls: Calls, data: Any = b"", encoding: Any = "latin-1") -> Any:
    return _encode(calls, data, encoding) if isinstance(data, str) else _is(data, bytes, memoryview)


def _mapping(calls: Calls, items: Any = (), *_: Any) -> dict[Any, Any]:
    if isinstance(items, Name):  # defaultdict's factory
        return {}
    calls.limits.spend(operations=len(_is(items, dict, list, tuple)))
    pairs = list(items.items()) if isinstance(items, dict) else [tuple(_is(pair, list, tuple)) for pair in items]
    return {checked_key(key): value for key, value in pairs}


def _reconstructor(calls: Calls, kind: Any, _: Any, state: Any) -> Any:
    made = calls.build(kind, ())
    if isinstance(state, dict) and isinstance(made, dict):
        calls.limits.spend(operations=len(state))
        made.update(state)
    return made


def _persistent(calls: Calls, meta: Any) -> Record:
    """NVIDIA's persistent classes: what the object was, without the source code that came along."""
    meta = _is(meta, dict)
    state = _is(meta.get("state") or {}, dict)
    calls.limits.spend(operations=len(state))
    return Record("persistent", {"class_name": meta.get("class_name"), **state})


def _with_type(calls: Calls, build: Any, _: Any, args: Any, *__: Any) -> Any:
    if not isinstance(build, Name) or not build.dotted.startswith("torch._utils._rebuild_"):
        raise WeightsError("rebuilds a tensor by something else than PyTorch's own function.")
    return calls.build(build, args)


def _nested(calls: Calls, data: Any) -> Any:
    return calls.nested(memoryview(data))


def _joined(calls: Calls, *parts: Any) -> str:
    calls.limits.spend(text=sum(len(_is(part, str)) + 1 for part in parts))
    return "/".join(parts).replace("//", "/")


def _device(calls: Calls, kind: Any, index: Any = None) -> str:
    return _joined(calls, kind) if index is None else f"{_joined(calls, kind)}:{_is(index, int)}"


def _new(calls: Calls, kind: Any, *args: Any) -> Any:
    return calls.build(kind, args)


def _members(calls: Calls, items: Any = ()) -> list[Any]:
    calls.limits.spend(operations=len(_is(items, list, tuple)))
    return [checked_key(item) for item in items]


_SAME = (
    ("__builtin__.", "builtins."), ("copy_reg.", "copyreg."), ("numpy._core.", "numpy.core."),
    ("torch.nn.parameter.", "torch.nn."), ("torch.tensor.", "torch._tensor."),
)  # fmt: skip
BUILDERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _view,
    "torch._utils._rebuild_tensor_v2": _view,
    "torch._utils._rebuild_tensor_v3": _retyped,
    "torch._utils._rebuild_parameter": lambda calls, data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda calls, data, *_: data,
    "torch._tensor._rebuild_from_type": _with_type,
    "torch._tensor._rebuild_from_type_v2": _with_type,
    "torch.storage._load_from_bytes": _nested,
    "torch.Size": lambda calls, size=(): counts(size),
    "torch.device": _device,
    "numpy.core.multiarray._reconstruct": lambda calls, *_: Array(),
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy.dtype": _dtype,
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _mapping,
    "collections.Counter": _mapping,
    "copyreg._reconstructor": _reconstructor,
    "copyreg.__newobj__": _new,
    "_codecs.encode": _encode,
    "builtins.set": _members,
    "builtins.frozenset": _members,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "builtins.complex": lambda calls, real, imaginary: complex(_is(real, float), _is(imaginary, float)),
    "builtins.dict": _mapping,
    "builtins.list": lambda calls: [],
    "pathlib.PosixPath": _joined,
    "pathlib.WindowsPath": _joined,
    "pathlib.PurePosixPath": _joined,
}
"""What stands for a call, by the dotted name of what the file wants called."""
_PASSIVE = {
    *STORAGES, *ELEMENTS, "numpy.ndarray", "builtins.object", "builtins.int", "builtins.long", "builtins.float", "builtins.str", "torch.Tensor",
    "torch.nn.Parameter",
}  # fmt: skip
_RECORDED = (
    "argparse.Namespace", "types.SimpleNamespace", "dnnlib.", "tfutil.Network", "easydict.EasyDict", "torch.nn.modules.",
    "torch_utils.", "training.", "pg_modules.", "functools.partial",
)  # fmt: skip
"""Names, or beginnings of names, that become a `Record`: options, and the classes inside pickled networks."""
