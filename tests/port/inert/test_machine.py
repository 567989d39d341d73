"""The pickle machine: what Python pickles comes back, names stay names, and what is declared is not believed."""

from __future__ import annotations

import pickle
import pickletools
import struct
import tracemalloc
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preimage.errors import WeightsError
from preimage.port.inert.calls import BUILDERS, Calls
from preimage.port.inert.machine import _OPERATIONS, Machine, Window
from preimage.port.inert.values import Limits, Name, Record

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20) | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)  # fmt: skip


def load(data: bytes, operations: int = 500_000) -> Any:
    def nested(_: memoryview) -> Any:
        raise AssertionError("no file in a file here")

    limits = Limits(len(data))
    limits.operations = operations
    return Machine(Window(memoryview(data)), Calls(limits, nested), lambda identity: ("id", identity)).load()


@given(PLAIN, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_plain_values_come_back(value: Any, protocol: int) -> None:
    assert load(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(6))
def test_shared_and_large_values_come_back(protocol: int) -> None:
    shared = [1]
    value = {"a": shared, "b": shared, "bytes": bytes(range(256)) * 40, "text": "é" * 70_000, "long": list(range(2000))}
    found = load(pickle.dumps(value, protocol))
    assert {**found, "bytes": bytes(found["bytes"])} == value
    assert found["a"] is found["b"]
    assert load(pickle.dumps({3, 4}, protocol)) == [3, 4]
    assert load(pickle.dumps(frozenset([5]), protocol)) == [5]
    assert load(pickle.dumps(OrderedDict(b=1, a=2), protocol)) == {"b": 1, "a": 2}
    assert load(pickle.dumps(bytearray(b"xy"), protocol)) == b"xy"
    assert load(pickle.dumps(1 + 2j, protocol)) == 1 + 2j
    loop: list[Any] = []
    loop.append(loop)
    found = load(pickle.dumps(loop, protocol))
    assert found[0] is found


def test_every_opcode_is_known_or_carries_a_plain_value() -> None:
    unknown = {op.name for op in pickletools.opcodes if op.name not in _OPERATIONS and op.arg is None} - {"STOP"}
    assert not unknown
    named = {name for name in _OPERATIONS if name not in {op.name for op in pickletools.opcodes}}
    assert not named


def test_opcodes_that_modern_pickles_do_not_use() -> None:
    assert load(b"(I1\nI01\nlp0\n0g0\n.") == [1, True]
    assert load(b"(S'a'\nF2.5\nd.") == {"a": 2.5}
    assert load(b"(I1\n(I3\n120t.") == (1,)  # POP_MARK, DUP, POP
    assert load(b"U\x02hi.") == "hi"
    assert load(b"L12L\n.") == 12
    assert load(b"Pkey\n.") == ("id", "key")
    made = load(b"(I7\niargparse\nNamespace\n.")  # INST
    assert isinstance(made, Record)
    assert (made.what, made["arguments"]) == ("argparse.Namespace", (7,))
    assert load(b"(ccollections\nOrderedDict\no.") == {}  # OBJ
    assert load(b"\x80\x04\x8c\x05numpy\x8c\x07ndarray\x93.") == Name("numpy.ndarray")


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n.", b"(S'x'\nios\nsystem\n.", b"\x8c\x02os\x8c\x06system\x93.", b"c__builtin__\neval\n.",
        b"cbuiltins\ngetattr\n.", b"cbuiltins\n__import__\n.", b"ctorch\nload\n.", b"cpickle\nloads\n.",
        b"cargparse\nNamespace\n)\x81N)\x92.",  # NEWOBJ_EX with a strange class
        b"S'text'\n)R.", b"]NR.", b"ctorch._utils\n_rebuild_tensor_v2\n}b.", b"\x82\x01.", b"\x97.", b"]\x98.",
        b"(ccollections\nOrderedDict\nlI1\nR.", b"I1\n}b.", b"}(]I1\nu.", b"}(((I1\nttI1\nu.",
    ],
)  # fmt: skip
def test_calls_of_anything_else_are_refused(data: bytes) -> None:
    with pytest.raises(WeightsError):
        load(data)


def test_nothing_can_be_attached_to_what_stands_for_a_function() -> None:
    before = dict(BUILDERS)
    with pytest.raises(WeightsError, match="sets the state of a Name"):
        load(b"ctorch._utils\n_rebuild_parameter\n(dS'__defaults__'\nN\x86b.".replace(b"N\x86", b"Ns"))
    made = load(b"cargparse\nNamespace\n)\x81}(S'__class__'\nI1\nS'what'\nI2\nub.")
    assert type(made) is Record
    assert made.what == "argparse.Namespace"
    assert made == {"__class__": 1, "what": 2}
    assert before == BUILDERS


@pytest.mark.parametrize(
    "data",
    [
        b"X" + struct.pack("<I", 2**32 - 1) + b"a" * 70_000_000,
        b"V" + b"a" * 70_000_000,
        b"\x8b" + struct.pack("<i", -5) + b".",
        b"\x8e" + struct.pack("<Q", 10**18) + b"abc.",
        b"\x96" + struct.pack("<Q", 10**18) + b"abc.",
        b"Nr" + struct.pack("<I", 2**32 - 1),  # a memo of four billion places
    ],
    ids=["text", "line", "negative", "bytes", "bytearray", "memo"],
)
def test_what_is_declared_is_not_believed(data: bytes) -> None:
    tracemalloc.start()
    with pytest.raises((WeightsError, ValueError)):
        load(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * 2**20


def test_doubling_is_bounded() -> None:
    doubled = b"cpathlib\nPosixPath\nq\x00" + b"X" + struct.pack("<I", 60_000) + b"a" * 60_000
    for _ in range(30):
        doubled += b"q\x01" + b"0h\x00h\x01h\x01\x86R"
    with pytest.raises(WeightsError, match="more memory or work"):
        load(doubled + b".")
    with pytest.raises(WeightsError, match="more memory or work"):
        load(b"]" * 1001, operations=1000)
    members = b"(" + b"N" * 1000 + b"lq\x00" + b"".join(b"cbuiltins\nset\nh\x00\x85R0" for _ in range(3000)) + b"N."
    with pytest.raises(WeightsError, match="more memory or work"):
        load(members)


def test_deep_nesting_does_not_overflow_the_stack() -> None:
    depth = 100_000
    found = load(b"]" * depth + b"a" * (depth - 1) + b".")
    assert isinstance(found, list)
    with pytest.raises(WeightsError, match="as a key"):  # hashing it would recurse
        load(b"}(" + b")" + b"\x85" * depth + b"Nu.")
