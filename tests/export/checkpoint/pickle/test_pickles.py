"""Small files made to do harm: nothing of theirs reaches native code, and none takes long or much memory."""

from __future__ import annotations

import datetime
import http
import pathlib
import pickle
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pickle_writer import call, integer, name, storage, tensor, text, tuple_of, write

from vla_edge.export.checkpoint.checkpoint import read_stored
from vla_edge.export.checkpoint.pickle.arrays import Array, ArrayType
from vla_edge.export.checkpoint.pickle.limits import MAX_STEPS
from vla_edge.export.checkpoint.pickle.stored_tensors import PLAIN_DTYPES
from vla_edge.export.checkpoint.plain import plain
from vla_edge.runtime.errors import CheckpointError

Rewritten = Callable[..., Path]

LATIN1 = text("latin1")
ENCODE = name("_codecs", "encode")


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        read_stored(path)
    assert str(path) in error.value.problem
    assert "weights_only=False" not in error.value.hint
    return error.value.problem


def hostile_dtype(kind: str = "f8") -> bytes:
    """A dtype that says it holds no objects, and does: its array's bytes become pointers."""
    plain_object = call(name("numpy", "dtype"), text("O"))
    fake = call(name("numpy", "dtype"), text(kind), b"\x89", b"\x88")
    subarray = tuple_of(plain_object, tuple_of(integer(1)))
    numbers = (integer(8), integer(8), integer(0))
    return fake + tuple_of(integer(4), text("<"), subarray, b"N", b"N", *numbers) + b"b"


ADDRESS = call(ENCODE, text(struct.pack("<Q", 0x424242424240).decode("latin1")), LATIN1)


class TestArraysThatWouldWriteToMemory:
    """Each ended an earlier version with a segmentation fault, or would have."""

    @pytest.mark.parametrize("kind", ["f8", "f4", "i8", "u1", "b1"])
    def test_an_array_made_by_its_class_is_refused_by_name(self, tmp_path: Path, kind: str) -> None:
        array = call(name("numpy", "ndarray"), tuple_of(integer(1)), hostile_dtype(kind), ADDRESS)
        problem = refusal(write(tmp_path / "a.pth", beside=array, key="epoch"))
        assert "is refused: reading it would run code from outside, numpy.ndarray" in problem

    @pytest.mark.parametrize("core", ["core", "_core"])
    def test_a_scalar_of_a_forged_dtype_is_read_past(self, tmp_path: Path, core: str) -> None:
        scalar = call(name(f"numpy.{core}.multiarray", "scalar"), hostile_dtype(), ADDRESS)
        assert read_stored(write(tmp_path / "a.pth", beside=scalar)).extra == {"extra": "array [] structured"}

    def test_a_state_of_a_forged_dtype_is_read_past(self, tmp_path: Path) -> None:
        empty = call(
            name("numpy.core.multiarray", "_reconstruct"),
            name("numpy", "ndarray"),
            tuple_of(integer(0)),
            text("b"),
        )
        state = tuple_of(integer(1), tuple_of(integer(1)), hostile_dtype(), b"\x89", ADDRESS)
        path = write(tmp_path / "a.pth", beside=empty + state + b"b")
        assert read_stored(path).extra == {"extra": "array [1] structured"}

    @pytest.mark.parametrize("shape", [(2,), (0,), (1 << 61,), (1 << 40, 1 << 40)])
    def test_an_array_with_other_bytes_than_its_shape_says(self, tmp_path: Path, shape: tuple) -> None:
        kind = call(name("numpy", "dtype"), text("f8"))
        sizes = tuple_of(*map(integer, shape))
        array = call(name("numpy._core.numeric", "_frombuffer"), ADDRESS, kind, sizes, text("C"))
        assert "does not have as many bytes as its shape says" in refusal(
            write(tmp_path / "a.pth", beside=array)
        )

    def test_the_command_ends_with_a_refusal_and_no_signal(self, tmp_path: Path) -> None:
        array = call(name("numpy", "ndarray"), tuple_of(integer(1)), hostile_dtype(), ADDRESS)
        path = write(tmp_path / "a.pth", beside=array, key="epoch")
        command = [sys.executable, "-m", "vla_edge.export.inspect.cli", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {path} is refused")


class TestTensorsThatReachBeyondTheirStorage:
    @pytest.mark.parametrize(
        ("weight", "words"),
        [
            (tensor(shape=(5,)), "a tensor of shape [5] reaches beyond its storage of 4 values"),
            (tensor(offset=1), "reaches beyond its storage"),
            (tensor(offset=-1), "an offset of it is -1"),
            (tensor(offset=1 << 59), "reaches beyond its storage"),
            (tensor(offset=1 << 62), "an offset of it is 4611686018427387904"),
            (tensor(shape=(0,), offset=5), "reaches beyond its storage"),
            (tensor(shape=(-1,)), "a shape of it is -1"),
            (tensor(stride=(-1,)), "a stride of it is -1"),
            (tensor(stride=(1 << 59,)), "reaches beyond its storage"),
            (tensor(shape=(2, 2), stride=(1,)), "a shape and strides of different lengths"),
            (tensor(shape=(1 << 59, 1 << 59), stride=(0, 0)), "a tensor of it has the shape"),
            (tensor(shape=(0, 1 << 59, 1 << 59), stride=(1, 1, 1)), "a tensor of it has the shape"),
            (tensor(shape=(1 << 40,), stride=(0,)), "repeats the 4 values of its storage without end"),
            (tensor(shape=(1,) * 65, stride=(1,) * 65), "a shape of it is no short tuple"),
            (tensor(stored=storage(values=5)), "should have 5 values of float32, its record has 16 bytes"),
            (tensor(stored=storage(values=-4)), "a storage of it is -4"),
            (tensor(stored=storage(kind="DoubleStorage")), "should have 4 values of float64"),
            (tensor(stored=storage(key="1")), "names storage '1', which the archive does not have"),
            (tensor(stored=storage(key="../version")), "which the archive does not have"),
            (tensor(stored=b"N"), "a tensor of it has no storage"),
        ],
    )
    def test_is_refused(self, tmp_path: Path, weight: bytes, words: str) -> None:
        assert words in refusal(write(tmp_path / "a.pth", weight=weight))

    @pytest.mark.parametrize(
        ("weight", "values"),
        [
            (tensor(), [1, 2, 3, 4]),
            (tensor(shape=(2, 2), stride=(1, 2)), [[1, 3], [2, 4]]),
            (tensor(shape=(2,), offset=2), [3, 4]),
            (tensor(shape=(3,), stride=(0,), offset=1), [2, 2, 2]),
            (tensor(shape=(3, 2), stride=(1, 1)), [[1, 2], [2, 3], [3, 4]]),
            (tensor(shape=(), stride=()), 1),
            (tensor(shape=(0, 7), stride=(7, 1)), []),
        ],
    )
    def test_views_within_it_are_read(self, tmp_path: Path, weight: bytes, values: Any) -> None:
        assert read_stored(write(tmp_path / "a.pth", weight=weight)).tensors["w"].tolist() == values


QUANTISED = ("qint8", "quint8", "qint32", "quint4x2", "quint2x4")
DTYPES = sorted(
    {str(value).removeprefix("torch.") for value in vars(torch).values() if type(value) is torch.dtype}
)


def of_dtype(dtype: str, shape: tuple[int, ...] = (2,)) -> bytes:
    """How torch writes tensors whose storages have no class of their own."""
    sizes, steps = tuple_of(*map(integer, shape)), tuple_of(*(integer(1) for _ in shape))
    stored, hooks = storage(values=16, kind="UntypedStorage"), call(name("collections", "OrderedDict"))
    rebuild = name("torch._utils", "_rebuild_tensor_v3")
    return call(rebuild, stored, integer(0), sizes, steps, b"\x89", hooks, name("torch", dtype))


class TestTensorsOfDtypesWithoutPlainValues:
    """torch's own functions fail on them: as_strided of a qint8 tensor ends the process."""

    @pytest.mark.parametrize("dtype", [*QUANTISED, "bits8", "bits16", "int4", "uint1", "float4_e2m1fn_x2"])
    def test_as_weights_are_refused_by_name(self, tmp_path: Path, dtype: str) -> None:
        path = write(tmp_path / "a.pth", weight=of_dtype(dtype))
        assert f"holds 1 values that are no plain tensors: w (a tensor of {dtype})" in refusal(path)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [(1,), (0,), ()])
    def test_of_every_dtype_that_torch_has_are_shown_beside_the_weights(
        self, tmp_path: Path, dtype: str, shape: tuple[int, ...]
    ) -> None:
        shown = read_stored(write(tmp_path / "a.pth", beside=of_dtype(dtype, shape))).extra["extra"]
        assert (shown == f"tensor {list(shape)} {dtype}") == (dtype not in PLAIN_DTYPES)

    def test_the_command_ends_without_a_signal(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.pth", weight=of_dtype("qint8"), beside=of_dtype("quint4x2"))
        command = [sys.executable, "-m", "vla_edge.export.inspect.cli", str(path)]
        assert subprocess.run(command, capture_output=True, timeout=120).returncode == 2


class TestValuesWhereNumbersAndNamesBelong:
    """A list of two times one list, of two times one list, and so on: its text would have 2^100 letters."""

    @pytest.mark.parametrize(
        "value", [lambda: memo_bomb(), lambda: b"]" * 100_000 + b"a" * 99_999], ids=["wide", "deep"]
    )
    @pytest.mark.parametrize(
        ("around", "words"),
        [
            (lambda value: call(name("torch", "device"), value), "a torch.device of it has no proper name"),
            (lambda value: call(name("torch", "device"), text("cuda"), value), "no proper number"),
            (lambda value: rebuilt(offset=value), "an offset of it is a list"),
            (lambda value: rebuilt(shape=tuple_of(value)), "a shape of it is a list"),
            (lambda value: rebuilt(stride=tuple_of(value)), "a stride of it is a list"),
            (lambda value: rebuilt(values=value), "a storage of it is a list"),
        ],
    )
    def test_are_refused_by_their_kind(
        self, tmp_path: Path, around: Callable[[bytes], bytes], words: str, value: Callable[[], bytes]
    ) -> None:
        assert words in refusal(write(tmp_path / "a.pth", beside=around(value())))

    def test_devices_are_read_as_torch_writes_them(self, tmp_path: Path) -> None:
        torch.save(
            {"model_state_dict": {"w": torch.ones(1)}, "d": [torch.device("cpu"), torch.device("cuda:1")]},
            tmp_path / "a.pth",
        )
        assert read_stored(tmp_path / "a.pth").extra == {"d": ["cpu", "cuda:1"]}


def rebuilt(
    offset: bytes = b"K\x00",
    shape: bytes = b"K\x04\x85",
    stride: bytes = b"K\x01\x85",
    values: bytes = b"K\x04",
) -> bytes:
    stored = tuple_of(text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), values) + b"Q"
    return call(name("torch._utils", "_rebuild_tensor_v2"), stored, offset, shape, stride, b"\x89", b"N")


def numpy_dtype(kind: str) -> bytes:
    numbers = (integer(-1), integer(-1), integer(0))
    state = tuple_of(integer(3), text("<"), b"N", b"N", b"N", *numbers)
    return call(name("numpy", "dtype"), text(kind), b"\x89", b"\x88") + state + b"b"


def numpy_array(kind: str, shape: tuple[int, ...], data: bytes = b"") -> bytes:
    content = b"C" + bytes([len(data)]) + data
    frombuffer = name("numpy._core.numeric", "_frombuffer")
    return call(frombuffer, content, numpy_dtype(kind), tuple_of(*map(integer, shape)), text("C"))


class TestArraysThatNumPyCannotShow:
    @pytest.mark.parametrize(
        ("array", "shown"),
        [
            (numpy_array("U0", (2,)), ["", ""]),
            (numpy_array("S0", (2,)), ["b''", "b''"]),
            (numpy_array("U0", (0,)), []),
            (numpy_array("f8", (0,)), []),
            (numpy_array("f8", (0, 1 << 61, 1 << 61)), f"array {[0, 1 << 61, 1 << 61]} f8"),
            (numpy_array("U0", (1 << 61, 1 << 61)), f"array {[1 << 61, 1 << 61]} U0"),
            (numpy_array("U1", (1,), b"\xff" * 4), "array [1] U1"),
            (numpy_array("U2", (1,), b"a\0\0\0\0\0\x11\0"), "array [1] U2"),
        ],
    )
    def test_are_described(self, tmp_path: Path, array: bytes, shown: Any) -> None:
        assert read_stored(write(tmp_path / "a.pth", beside=array)).extra == {"extra": shown}

    @pytest.mark.parametrize("protocol", [2, 4, 5])
    def test_empty_text_is_read_as_empty(self, tmp_path: Path, protocol: int) -> None:
        beside = {
            "text": np.str_(""),
            "bytes": np.bytes_(b""),
            "list": np.array(["", ""]),
            "none": np.array([], "U"),
        }
        path = tmp_path / "a.pth"
        torch.save({"model_state_dict": {"w": torch.ones(1)}, **beside}, path, pickle_protocol=protocol)
        extra = read_stored(path).extra
        assert (extra["text"], extra["bytes"], extra["list"], extra["none"]) == ("", "b''", ["", ""], [])

    @pytest.mark.parametrize(
        "state",
        [
            tuple_of(integer(3), text("<"), integer(1), b"N", b"N"),
            tuple_of(integer(3), text(">"), *[b"N"] * 3),
        ],
    )
    def test_a_dtype_that_is_changed_later_leaves_arrays_as_they_were(
        self, tmp_path: Path, state: bytes
    ) -> None:
        kind = call(name("numpy", "dtype"), text("f8"), b"\x89", b"\x88") + b"q\x07"
        scalar = call(name("numpy._core.multiarray", "scalar"), b"h\x07", b"C\x08" + struct.pack("<d", 1.5))
        beside = b"(" + kind + scalar + b"h\x07" + state + b"b" + b"t"
        assert read_stored(write(tmp_path / "a.pth", beside=beside)).extra["extra"][1] == 1.5

    def test_what_a_library_fails_on_is_named_and_not_a_traceback(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def failing(array: Array) -> Any:
            raise SystemError("of a library")

        monkeypatch.setattr(Array, "plain", failing)
        assert plain({"a": Array(ArrayType("f8")), "b": 1}) == {"a": "Array that cannot be shown", "b": 1}


class TestManyViewsOfOneStorage:
    @pytest.mark.parametrize(("views", "values"), [(600, 16 << 20), (100, 4 << 20), (17, 16 << 20)])
    def test_are_bounded_together(self, tmp_path: Path, views: int, values: int) -> None:
        path = write(tmp_path / "a.pth", beside=b"(" + tensor(shape=(values,), stride=(0,)) * views + b"l")
        assert "its tensors together have more than 8 times as many bytes as the file" in refusal(path)

    def test_that_share_it_as_trainers_let_them_are_read(self, tmp_path: Path) -> None:
        weights = {"w": torch.ones(1 << 10)}
        again = dict.fromkeys(("ema_state_dict", "swa_state_dict"), weights)
        mask = {f"mask{index}": torch.ones(1, dtype=torch.bool).expand(2048, 2048) for index in range(24)}
        torch.save({"model_state_dict": weights, **again, **mask}, tmp_path / "a.pth")
        assert list(read_stored(tmp_path / "a.pth").tensors) == ["w"]


def memo_bomb(levels: int = 100, width: int = 10) -> bytes:
    """A list of ten times one list, of ten times one list, and so on: 10^100 values in some kilobytes."""
    built = b"]q\x00"
    for level in range(levels):
        built += b"0(" + (b"h" + bytes([level])) * width + b"lq" + bytes([level + 1])
    return built


COPIES = b"(" + b"N" * 100_000 + b"lq\x010(" + (name("builtins", "list") + b"h\x01\x85R") * 3000 + b"l"
COLLISIONS = (b"\x8a\x0c" + (((1 << 61) - 1) * each).to_bytes(12, "little") + b"N" for each in range(1, 9999))


class TestSmallFilesOfGreatCost:
    @pytest.mark.parametrize("key", ["extra", "args", "optimizer", "epoch", "val_mae"])
    @pytest.mark.parametrize(
        "beside",
        [
            memo_bomb(),
            b"]q\x00h\x00a",
            b"}q\x00" + text("k") + b"h\x00s",
            b"]" * 100_000 + b"a" * 99_999,
            b")" + b"\x85" * 100_000,
        ],
        ids=["memo bomb", "list in itself", "dictionary in itself", "deep list", "deep tuple"],
    )
    def test_what_is_nested_without_end_is_read_and_shown_in_part(
        self, tmp_path: Path, beside: bytes, key: str
    ) -> None:
        stored = read_stored(write(tmp_path / "a.pth", beside=beside, key=key))
        assert list(stored.tensors) == ["w"]
        assert len(repr(stored)) < 1_000_000

    @pytest.mark.parametrize(
        ("beside", "words"),
        [
            (call(name("__builtin__", "bytearray"), integer(10**10)), "it encodes text in another way"),
            (call(name("builtins", "bytes"), integer(10**10)), "it encodes text in another way"),
            (call(ENCODE, text("a"), text("zip")), "it encodes text in another way"),
            (call(ENCODE, call(ENCODE, text("a"), LATIN1), LATIN1), "it encodes a bytes"),
            (COPIES, "it builds more than 33,554,432 bytes and elements"),
            (b"}" + b")" + b"\x85" * 100_000 + b"Ns", "a key is neither text, nor a number"),
            (b"\x8f(" + b")" + b"\x85" * 100_000 + b"\x90", "a key is neither text, nor a number"),
            (b"}(" + b"".join(COLLISIONS) + b"u", "a key is neither text, nor a number"),
            (b"\x8b" + struct.pack("<i", 1 << 30), "an integer of it has 1,073,741,824 bytes"),
            (b"I" + b"1" * 10_000 + b"\n", "a line of it has no end within 4,096 bytes"),
            (b"X" + struct.pack("<I", 1 << 31), "it ends too early"),
            (b"\x8e" + struct.pack("<Q", 1 << 63), "it ends too early"),
            (b"N0" * (MAX_STEPS // 2), "more than 4,000,000 instructions"),
            (b"\x97", "is no instruction"),
            (b"h\x07", "asks for value 7, which it has not made"),
            (b"0" * 9, "it takes from an empty stack"),
        ],
    )
    def test_is_refused_at_its_limit(self, tmp_path: Path, beside: bytes, words: str) -> None:
        assert words in refusal(write(tmp_path / "a.pth", beside=beside))


class TestHonestFilesBeyondALimit:
    """They are whole: the error names the limit, and not damage."""

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (
                lambda: {each / 7: each for each in range(20_000)},
                "more than 10,000 of its keys are neither text",
            ),
            (
                lambda: {-each: each for each in range(20_000)},
                "more than 10,000 of its keys are neither text",
            ),
            (lambda: {2**70: 1}, "a key is neither text, nor a number, nor a short tuple"),
            (lambda: {("a", ("b", "c")): 1}, "a key is neither text, nor a number, nor a short tuple"),
            (lambda: 10**400, "an integer of it has 167 bytes, at most 128 are read"),
            (lambda: ["y" * 100_000 + str(each) for each in range(400)], "builds more than 33,554,432 bytes"),
            (lambda: [0.5] * 4_100_000, "more than 4,000,000 instructions"),
            (
                lambda: torch.zeros(1, dtype=torch.bool).expand(9000, 9000),
                "at most 67,108,864 bytes are read",
            ),
        ],
    )
    def test_are_told_which_and_what_to_save(
        self, tmp_path: Path, value: Callable[[], Any], words: str
    ) -> None:
        path = tmp_path / "a.pth"
        torch.save({"model_state_dict": {"w": torch.ones(1)}, "extra": value()}, path)
        with pytest.raises(CheckpointError) as error:
            read_stored(path)
        assert error.value.problem.startswith(f"{path} holds more than is read: ")
        assert words in error.value.problem
        assert "damaged" not in str(error.value)
        assert "Save the weights alone: torch.save(" in error.value.hint

    def test_too_many_tensors(self, tmp_path: Path) -> None:
        many = tensor() + b"q\x01" + (name("torch._utils", "_rebuild_parameter") + b"h\x01\x85R0") * 200_000
        problem = refusal(write(tmp_path / "a.pth", beside=many))
        assert "holds more than is read: it has more than 200,000 tensors" in problem

    def test_a_number_written_in_more_digits(self, tmp_path: Path) -> None:
        problem = refusal(write(tmp_path / "a.pth", beside=b"I" + b"9" * 400 + b"\n"))
        assert "holds more than is read: an integer of it has 400 digits, at most 300 are read" in problem

    def test_a_tokenizers_merges_are_within_it(self, tmp_path: Path) -> None:
        ranks = {(f"a{each}", f"b{each}"): each for each in range(48_894)}
        torch.save({"model_state_dict": {"w": torch.ones(1)}, "bpe_ranks": ranks}, tmp_path / "a.pth")
        assert read_stored(tmp_path / "a.pth").extra["bpe_ranks"]["('a7', 'b7')"] == 7

    @pytest.mark.parametrize("key", [("x" * 1_000_000,) * 16, b"x" * 1_000_000, 10**18])
    def test_long_keys_are_shown_in_part(self, tmp_path: Path, key: Any) -> None:
        torch.save({"model_state_dict": {"w": torch.ones(1)}, "extra": {key: 1}}, tmp_path / "a.pth")
        assert len(repr(read_stored(tmp_path / "a.pth").extra)) < 300


class TestOneLongValueGivenManyTimes:
    """Each use would walk it all: a file of a megabyte could ask for hours."""

    @pytest.mark.parametrize(
        "use",
        [
            (name("torch._utils", "_rebuild_qtensor") + b"h\x01R0") * 100,
            (name("pathlib", "PosixPath") + b"h\x01R0") * 100_000,
            b"0" + name("argparse", "Namespace") + b")\x81" + b"h\x02b" * 10_000,
        ],
        ids=["arguments of a tensor", "arguments of a path", "state of a namespace"],
    )
    def test_is_refused(self, tmp_path: Path, use: bytes) -> None:
        longest = b"(" + text("a") * 20_000 + b"tq\x01"
        state = b"}q\x02(" + b"".join(text(f"a{each}") + b"N" for each in range(20_000)) + b"u"
        problem = refusal(write(tmp_path / "a.pth", beside=longest + state + use))
        limits = (
            "builds more than 33,554,432 bytes",
            "has too many arguments",
            "has 20,000 parts, at most 256",
        )
        assert any(words in problem for words in limits)


class TestNamesFromOutside:
    def test_all_are_listed_even_if_the_pickle_is_damaged_later(self, tmp_path: Path) -> None:
        beside = call(name("os", "system"), text("true")) + name("\x1b[2Jevil", "x") + b"\x97"
        problem = refusal(write(tmp_path / "a.pth", beside=beside))
        assert "would run code from outside, \\x1b[2Jevil.x, os.system. Nothing of it was run" in problem

    @pytest.mark.parametrize(
        "function",
        [
            name("builtins", "eval"),
            name("numpy.testing._private.utils", "runstring"),
            name("torch.hub", "load"),
            text("builtins") + text("getattr") + b"\x93",
        ],
    )
    def test_are_refused_wherever_they_stand(self, tmp_path: Path, function: bytes) -> None:
        beside = (
            call(name("collections", "OrderedDict")) + b"}" + text("a") + call(function, text("1")) + b"sb"
        )
        assert "would run code from outside" in refusal(write(tmp_path / "a.pth", beside=beside))

    def test_old_opcodes_run_nothing_either(self, tmp_path: Path) -> None:
        for beside in (
            b"(" + text("true") + b"ios\nsystem\n",
            b"(" + name("os", "system") + text("true") + b"o",
        ):
            assert "code from outside, os.system" in refusal(write(tmp_path / "a.pth", beside=beside))


class TestHarmlessValues:
    """What training scripts keep beside the weights is read past, whatever its type."""

    @pytest.mark.parametrize("protocol", [2, 3, 4, 5])
    def test_are_read_or_described(self, rewritten: Rewritten, tmp_path: Path, protocol: int) -> None:
        beside = {
            "paths": [pathlib.PurePosixPath("/a/b"), pathlib.PureWindowsPath("c:/d")],
            "bytes": [b"", b"ab", bytearray(b"cd"), bytes(200)],
            "collections": [OrderedDict(a=1), Counter("aab"), defaultdict(list, b=[2]), deque([1], 5)],
            "sets": [{1}, frozenset({"a"}), {(1, 2): 3}],
            "numbers": [1j, 2**100, -1, 1.5, True],
            "torch": [torch.float16, torch.Size([2, 3]), torch.device("cuda:1"), torch.sparse_coo],
        }
        path = rewritten(lambda container: container.update(beside), name=f"p{protocol}.pth")
        torch.save({"model_state_dict": {"w": torch.zeros(1)}, **beside}, path, pickle_protocol=protocol)
        assert read_stored(path).extra == {
            "paths": ["/a/b", "c:\\d"],
            "bytes": ["b''", "b'ab'", "b'cd'", "200 bytes"],
            "collections": [{"a": 1}, {"a": 2, "b": 1}, {"b": [2]}, [1]],
            "sets": [[1], ["a"], {"(1, 2)": 3}],
            "numbers": ["1j", 2**100, -1, 1.5, True],
            "torch": ["torch.float16", [2, 3], "cuda:1", "torch.serialization._get_layout"],
        }

    @pytest.mark.parametrize("protocol", [2, 4, 5])
    def test_numpy_values_of_every_dtype(self, tmp_path: Path, protocol: int) -> None:
        kinds = "?bBhHiIlLqQefdFD"
        beside = {
            "scalars": [np.ones((), kind)[()] for kind in kinds],
            "arrays": [np.ones((2, 1), kind) for kind in kinds],
            "swapped": np.array([1.5], ">f4"),
            "columns": np.asfortranarray([[1, 2], [3, 4]]),
            "text": np.array(["a", "bc"]),
            "objects": np.array([None, "x"]),
            "structured": np.zeros(2, [("a", "f4")]),
            "time": np.datetime64("2026-01-01"),
            "large": np.zeros(600_000),
            "state": np.random.RandomState(0).get_state(),
        }
        path = tmp_path / "a.pth"
        torch.save({"model_state_dict": {"w": torch.zeros(1)}, **beside}, path, pickle_protocol=protocol)
        extra = read_stored(path).extra
        assert extra["scalars"] == [True, *[1] * 13, "(1+0j)", "(1+0j)"]
        assert extra["arrays"] == [[[one]] * 2 for one in extra["scalars"]]
        assert (extra["swapped"], extra["columns"], extra["text"]) == ([1.5], [[1, 2], [3, 4]], ["a", "bc"])
        assert extra["objects"] == "array [2] O8"
        assert extra["structured"] == "array [2] structured"
        assert extra["time"] == "array [] M8"
        assert extra["large"] == "array [600000] f8"
        assert extra["state"][:2] == ["MT19937", "array [624] u4"]

    def test_random_generators_and_times(self, tmp_path: Path) -> None:
        beside = {
            "python": random.Random(1).getstate(),
            "numpy": [np.random.default_rng(1), np.random.RandomState(1)],
            "torch": torch.get_rng_state(),
            "when": [datetime.datetime(2026, 1, 1), datetime.timedelta(1), datetime.timezone.utc],
            "run": uuid.UUID(int=1),
        }
        path = tmp_path / "a.pth"
        torch.save({"model_state_dict": {"w": torch.zeros(1)}, **beside}, path)
        extra = read_stored(path).extra
        assert extra["torch"].startswith("tensor [")
        assert extra["when"] == ["datetime.datetime", "datetime.timedelta", "datetime.timezone"]

    @pytest.mark.parametrize("protocol", [2, 4, 5])
    def test_values_of_the_standard_library_and_of_torch(self, tmp_path: Path, protocol: int) -> None:
        beside = {
            "version": torch.__version__,
            "types": [str, type(None), int, ...],
            "generator": torch.Generator(),
            "table": np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")]),
            "row": np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")])[0],
            "enumerations": [signal.SIGTERM, http.HTTPStatus.OK, re.IGNORECASE, socket.AF_INET],
            "collections": [UserDict(a=1), UserList([1]), ChainMap({"a": 1})],
            "when": time.localtime(0),
        }
        path = tmp_path / "a.pth"
        torch.save({"model_state_dict": {"w": torch.ones(1)}, **beside}, path, pickle_protocol=protocol)
        extra = read_stored(path).extra
        assert extra["version"] == str(torch.__version__)
        assert extra["types"] == ["builtins.str", "NoneType", "builtins.int", "builtins.Ellipsis"]
        assert extra["generator"] == "torch._C.Generator"
        assert (extra["table"], extra["row"]) == ("array [1] structured", "array [] structured")
        enumerations = ["signal.Signals", "http.HTTPStatus", "re.RegexFlag", "socket.AddressFamily"]
        assert extra["enumerations"] == enumerations
        assert extra["collections"] == [
            "collections.UserDict",
            "collections.UserList",
            "collections.ChainMap",
        ]
        assert extra["when"] == "time.struct_time"

    def test_a_class_made_on_the_way_is_none_of_them(self, tmp_path: Path) -> None:
        made = call(name("builtins", "type"), text("A"), b")", b"}")
        assert "code from outside, builtins.type" in refusal(write(tmp_path / "a.pth", beside=made))

    @pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
    def test_a_path_of_another_python(self, tmp_path: Path, module: str) -> None:
        path = call(name(module, "PosixPath"), text("/"), text("data"), text("out"))
        namespace = name("argparse", "Namespace") + b")\x81}" + text("out") + path + b"sb"
        stored = read_stored(write(tmp_path / "a.pth", beside=namespace, key="args"))
        assert stored.args == {"out": "/data/out"}


def test_a_pickle_of_protocol_0_is_read(tmp_path: Path) -> None:
    """What Python 2 wrote."""
    beside = pickle.dumps({"a": [1, 2.5, True, None, "x", 10**30]}, protocol=0).removesuffix(b".")
    extra = read_stored(write(tmp_path / "a.pth", beside=beside)).extra
    assert extra == {"extra": {"a": [1, 2.5, True, None, "x", 10**30]}}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tensors_of_every_dtype_and_kind_of_view_are_torchs_own(tmp_path: Path, protocol: int) -> None:
    """Read by torch.load and by us: same values, shapes, strides and dtypes."""
    names = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 uint16 uint32 float8_e4m3fn"
    table = torch.arange(24.0).reshape(2, 3, 4)
    weights = {name: torch.tensor([0, 1, 2]).to(getattr(torch, name)) for name in names.split()}
    weights |= {
        "view": table[1, :, 1:],
        "tied": table,
        "transposed": table.permute(2, 0, 1),
        "expanded": torch.ones(1).expand(3, 5),
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(3.0),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "buffer": torch.nn.Buffer(torch.ones(2)),
    }
    path = tmp_path / "a.pth"
    torch.save({"model_state_dict": weights}, path, pickle_protocol=protocol)
    tensors = read_stored(path).tensors
    assert list(tensors) == list(weights)
    for key, wanted in weights.items():
        found = tensors[key]
        assert (found.dtype, found.shape, found.stride()) == (wanted.dtype, wanted.shape, wanted.stride())
        assert torch.equal(found.to(torch.complex64), wanted.to(torch.complex64)), key
    assert tensors["view"].untyped_storage().data_ptr() == tensors["tied"].untyped_storage().data_ptr()
