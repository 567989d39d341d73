"""A pickle machine that calls nothing: opcodes of protocols 0 to 5 over plain data (`pickletools` describes them).

Python's own unpickler calls what a file names, sets attributes on what it finds, and allocates what a file declares. This one
asks `Calls` what a name or a call stands for, keeps its memo in a dictionary, and reads no more than there is.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from typing import Any

from preimage.errors import WeightsError
from preimage.port.inert.calls import Calls, checked_key

MOST_TEXT = 1 << 25  # bytes of one text
SMALL = 1 << 12


class Window:
    """Bytes read like a file, without a copy of what is large.

    Attributes:
        most: how many bytes may be read at once.
        views: whether more than some kilobytes come as a view on the file.
    """

    def __init__(self, data: memoryview, most: int = MOST_TEXT):
        self.data, self.at, self.most, self.views = data, 0, most, False

    def read(self, count: int = -1) -> Any:
        """Up to `count` bytes, fewer at the end."""
        left = max(len(self.data) - self.at, 0)
        count = left if count < 0 else min(count, left)
        if count > self.most and not self.views:
            raise WeightsError(f"declares a text of {count} bytes; it is damaged, or made to exhaust memory.")
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece if self.views and count > SMALL else bytes(piece)

    def readline(self) -> bytes:
        """Up to the next line break, and that."""
        for most in (1 << 7, 1 << 11, 1 << 15, 1 << 19, 1 << 23, MOST_TEXT):
            piece = bytes(self.data[self.at : self.at + most])
            if (end := piece.find(b"\n")) >= 0:
                self.at += end + 1
                return piece[: end + 1]
        raise ValueError("a line without an end")

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any file."""
        at = offset + (0, self.at, len(self.data))[whence]
        if at < 0:
            raise OSError("before the start")
        self.at = at
        return at

    def tell(self) -> int:
        return self.at


class Machine:
    """Reads one pickle.

    Args:
        window: stands at its start, and behind its end afterwards.
        calls: what names and calls stand for.
        persistent: what a persistent id stands for.
    """

    def __init__(self, window: Window, calls: Calls, persistent: Callable[[Any], Any]):
        self.window, self.calls, self.persistent = window, calls, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The value of the pickle.

        Raises:
            WeightsError: it asks for something that plain weights do not need.
            ValueError, LookupError, TypeError, struct.error: it is damaged.
        """
        while True:
            self.calls.limits.spend(operations=1)
            opcode = _OPCODES.get(bytes(self.window.read(1)))
            if opcode is None:
                raise ValueError("no pickle, or one that is cut short")
            if opcode.name == "STOP":
                return self.stack.pop()
            self.window.views = opcode.name in _BYTES
            argument = self._argument(opcode)
            self.window.views = False
            operation = _OPERATIONS.get(opcode.name)
            if operation is not None:
                operation(self, argument)
            elif opcode.arg is not None:
                self.stack.append(argument)
            else:
                raise WeightsError(f"uses {opcode.name} of pickle, which plain weights do not need.")

    def _argument(self, opcode: pickletools.OpcodeInfo) -> Any:
        if opcode.arg is None:
            return None
        if opcode.name == "BYTEARRAY8":  # as bytes: pickletools would copy them
            (count,) = struct.unpack("<Q", self.window.read(8))
            argument: Any = self.window.read(count)
            if len(argument) < count:
                raise ValueError("cut short")
            return argument
        argument = opcode.arg.reader(self.window)  # type: ignore[arg-type]
        if isinstance(argument, str):
            self.calls.limits.spend(text=len(argument))
        return argument

    def popped(self) -> list[Any]:
        """What lies above the last mark."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def tuple_of(self, count: int) -> None:
        """The uppermost values as one tuple."""
        if len(self.stack) < count:
            raise IndexError("stack")
        self.stack[len(self.stack) - count :] = [tuple(self.stack[len(self.stack) - count :])]

    def add(self, items: list[Any]) -> None:
        """Items at the end of the list below."""
        self.top(list).extend(items)

    def members(self, items: list[Any]) -> None:
        """Members of the set below, which is kept as a list."""
        self.top(list).extend(checked_key(item) for item in items)

    def put(self, items: list[Any]) -> None:
        """Keys and values, in turn, into the dictionary below."""
        target = self.top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[checked_key(key)] = value

    def top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise TypeError(f"a {type(self.stack[-1]).__name__} where a {kind.__name__} belongs")
        return self.stack[-1]

    def make(self, name: Any, args: Any) -> None:
        self.stack.append(self.calls.build(name, args))

    def make_dict(self) -> None:
        items = self.popped()
        self.stack.append({})
        self.put(items)

    def make_marked(self, name: Any = None) -> None:
        items = self.popped()
        self.make(items.pop(0) if name is None else name, tuple(items))

    def call(self) -> None:
        args = self.stack.pop()
        self.make(self.stack.pop(), args)

    def call_with_keywords(self) -> None:
        keywords = self.stack.pop()
        if keywords:
            raise WeightsError("calls something with keywords, which plain weights do not need.")
        self.call()

    def set_state(self) -> None:
        state = self.stack.pop()
        self.calls.set_state(self.stack[-1], state)

    def named(self, argument: str) -> Any:
        module, _, name = argument.partition(" ")
        return self.calls.find(module, name)

    def stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("a name that is no text")
        self.stack.append(self.calls.find(module, name))

    def protocol(self, version: int) -> None:
        if version > 5:
            raise WeightsError(f"is a pickle of protocol {version}; known are 0 to 5.")


def _memoize(machine: Machine, index: int) -> None:
    machine.memo[index] = machine.stack[-1]


def _recall(machine: Machine, index: int) -> None:
    if index not in machine.memo:
        raise ValueError(f"recalls its value {index}, which it never kept")
    machine.stack.append(machine.memo[index])


def _refuse(machine: Machine, _: Any) -> None:
    raise WeightsError(
        "uses a part of pickle (extension codes, buffers beside the file) that plain weights do not need."
    )


_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_BYTES = {"BINBYTES", "BINBYTES8", "SHORT_BINBYTES", "BYTEARRAY8"}
_OPERATIONS: dict[str, Callable[[Machine, Any], object]] = {
    "PROTO": Machine.protocol,
    "FRAME": lambda m, _: None,
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "EMPTY_SET": lambda m, _: m.stack.append([]),
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.stack.pop() if not m.marks or len(m.stack) > m.marks[-1] else m.marks.pop(),
    "POP_MARK": lambda m, _: m.popped(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "LIST": lambda m, _: m.stack.append(m.popped()),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.popped())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "DICT": lambda m, _: m.make_dict(),
    "FROZENSET": lambda m, _: m.stack.append([checked_key(item) for item in m.popped()]),
    "APPEND": lambda m, _: m.add([m.stack.pop()]),
    "APPENDS": lambda m, _: m.add(m.popped()),
    "ADDITEMS": lambda m, _: m.members(m.popped()),
    "SETITEM": lambda m, _: m.put([m.stack.pop(-2), m.stack.pop()]),
    "SETITEMS": lambda m, _: m.put(m.popped()),
    "MEMOIZE": lambda m, _: _memoize(m, len(m.memo)),
    "PUT": _memoize,
    "BINPUT": _memoize,
    "LONG_BINPUT": _memoize,
    "GET": _recall,
    "BINGET": _recall,
    "LONG_BINGET": _recall,
    "GLOBAL": lambda m, argument: m.stack.append(m.named(argument)),
    "STACK_GLOBAL": lambda m, _: m.stack_global(),
    "REDUCE": lambda m, _: m.call(),
    "NEWOBJ": lambda m, _: m.call(),
    "NEWOBJ_EX": lambda m, _: m.call_with_keywords(),
    "INST": lambda m, argument: m.make_marked(m.named(argument)),
    "OBJ": lambda m, _: m.make_marked(),
    "BUILD": lambda m, _: m.set_state(),
    "PERSID": lambda m, argument: m.stack.append(m.persistent(argument)),
    "BINPERSID": lambda m, _: m.stack.append(m.persistent(m.stack.pop())),
    "EXT1": _refuse,
    "EXT2": _refuse,
    "EXT4": _refuse,
    "NEXT_BUFFER": _refuse,
    "READONLY_BUFFER": _refuse,
}
