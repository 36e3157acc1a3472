"""Tensors of a torch checkpoint: views of the mapped file, each checked against the record that it lies in."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from vla_edge.export.checkpoint.file.archive import Record
from vla_edge.export.checkpoint.file.mapped_values import mapped_values
from vla_edge.export.checkpoint.file.source_file import SourceFile

from .limits import PickleLimitError, UnreadablePickleError
from .tensor_parts import MAX_AXES, check_extent, device_of, is_shape, size_of, sizes_of

if TYPE_CHECKING:
    import torch

_MAX_TENSORS = 200_000
# All tensors of one file together: weights, their averages and an optimizer's state may share storages.
_MAX_TIMES_FILE = 8
_MAX_BYTES_BEYOND = 1 << 30
# The longest list of arguments of the functions below has eleven.
_MAX_ARGUMENTS = 16

# Dtypes whose values are plain bytes. torch has more, such as qint8 and bits8, on which its own functions fail, some
# of them with a segmentation fault.
PLAIN_DTYPES = frozenset(
    [
        "float64",
        "float32",
        "float16",
        "bfloat16",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint64",
        "uint32",
        "uint16",
        "uint8",
        "bool",
        "complex128",
        "complex64",
    ]
)

# torch.storage._dtype_to_storage_type_map; newer dtypes come as an UntypedStorage and a dtype.
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "UntypedStorage": "uint8",
}
_QUANTISED_STORAGES = ("QInt8", "QInt32", "QUInt8", "QUInt4x2", "QUInt2x4")

_REBUILD = "torch._utils._rebuild_"
_VIEWS = ("tensor", "tensor_v2", "tensor_v3")
# Tensors without values that could be read as they are, and what they are called.
_UNREADABLE = {
    "meta_tensor_no_storage": "a tensor on the meta device, without values",
    "qtensor": "a quantised tensor",
    "sparse_tensor": "a sparse tensor",
    "sparse_csr_tensor": "a sparse tensor",
    "nested_tensor": "a nested tensor",
    "device_tensor_from_numpy": "a tensor of another device, kept by NumPy",
    "xla_tensor": "a tensor of another device, kept by NumPy",
}
_WRAPPERS = ("parameter", "parameter_with_state", "device_tensor_from_cpu_tensor")
_FROM_TYPE = ("torch._tensor._rebuild_from_type", "torch._tensor._rebuild_from_type_v2")
_TENSOR_CLASSES = (
    "torch.Tensor",
    "torch.nn.parameter.Parameter",
    "torch.nn.parameter.Buffer",
)
TENSOR_NAMES = frozenset(
    [
        *(_REBUILD + name for name in (*_VIEWS, *_UNREADABLE, *_WRAPPERS)),
        *_FROM_TYPE,
        *_TENSOR_CLASSES,
        "torch.Size",
        "torch.device",
    ]
)


@dataclass(frozen=True)
class StorageType:
    """A class of storages; `dtype` is None where its values are quantised."""

    dtype: str | None


@dataclass(frozen=True)
class Storage:
    """A record that holds values of one dtype; None where they are quantised."""

    record: Record
    dtype: str | None
    values: int


@dataclass(frozen=True)
class UnreadableTensor:
    """A tensor of a kind that has no plain values, with its shape and dtype as far as they are told."""

    kind: str
    shape: tuple[int, ...] | None = None
    dtype: str = ""

    def __str__(self) -> str:
        return f"tensor {list(self.shape)} {self.dtype}".rstrip() if self.shape is not None else self.kind


class TensorBuilder:
    """Makes tensors of one mapped file. Nothing is read from it; do not write to them."""

    def __init__(self, file: SourceFile, records: Mapping[str, Record]) -> None:
        self._file = file
        self._records = records
        self._storages: dict[tuple[str, str], torch.Tensor] = {}
        self._built = 0
        self._bytes_left = _MAX_TIMES_FILE * file.size_bytes + _MAX_BYTES_BEYOND

    @cached_property
    def _map(self) -> mmap.mmap:
        return self._file.map()

    def constant(self, name: str) -> Any:
        """torch's dtypes, layouts and storage classes as values; None for another name."""
        import torch

        module, _, last = name.rpartition(".")
        if module in ("torch", "torch.storage", "torch.cuda") and last.endswith("Storage"):
            if last in _STORAGES:
                return StorageType(_STORAGES[last])
            return StorageType(None) if last.removesuffix("Storage") in _QUANTISED_STORAGES else None
        # not getattr: torch imports modules for attributes that it does not have yet
        value = vars(torch).get(last) if module == "torch" else None
        kinds = (torch.dtype, torch.layout, torch.memory_format, torch.qscheme)
        return value if isinstance(value, kinds) else None

    def is_tensor(self, value: Any) -> bool:
        import torch

        return isinstance(value, torch.Tensor)

    def storage(self, identity: Any) -> Storage:
        """The storage of a persistent id: ("storage", class, key, device, number of values)."""
        if not isinstance(identity, tuple) or len(identity) != 5 or identity[0] != "storage":
            raise UnreadablePickleError("a storage of it has no proper name")
        _, kind, key, _, values = identity
        if not isinstance(kind, StorageType) or not isinstance(key, str):
            raise UnreadablePickleError("a storage of it has no proper name")
        record = self._records.get(f"data/{key}")
        if record is None:
            raise UnreadablePickleError(f"it names storage {key[:80]!r}, which the archive does not have")
        storage = Storage(record, kind.dtype, size_of(values, "a storage"))
        if kind.dtype and storage.values * _dtype(kind.dtype).itemsize != record.size_bytes:
            raise UnreadablePickleError(
                f"storage {key[:80]!r} should have {storage.values:,} values of {kind.dtype}, its record has "
                f"{record.size_bytes:,} bytes"
            )
        return storage

    def build(self, name: str, args: tuple[Any, ...]) -> Any:
        """What calling one of `TENSOR_NAMES` stands for."""
        if name == "torch.Size":
            return sizes_of(args[0] if args else (), "a torch.Size")
        if name == "torch.device":
            return device_of(args)
        self._built += 1
        if self._built > _MAX_TENSORS:
            raise PickleLimitError(f"it has more than {_MAX_TENSORS:,} tensors")
        if len(args) > _MAX_ARGUMENTS:
            raise UnreadablePickleError("a tensor of it has too many arguments")
        if name in _FROM_TYPE:
            return self._from_type(args)
        function = name.removeprefix(_REBUILD)
        if function in _UNREADABLE:
            return self._unreadable(_UNREADABLE[function], args)
        if function in _WRAPPERS:
            return self._unwrapped(args)
        if function in _VIEWS:
            return self._view(function, args)
        raise UnreadablePickleError(f"it calls {name}")

    def _unreadable(self, kind: str, args: tuple[Any, ...]) -> UnreadableTensor:
        """All kinds have a tuple for their shape, and a dtype or a tensor of their values, in some order."""
        import torch

        short = [arg for arg in args if isinstance(arg, tuple) and len(arg) <= MAX_AXES]
        inner = next((arg for arg in short if any(map(self.is_tensor, arg))), ())
        parts = (*args, *inner)
        shapes = (part for part in parts if is_shape(part))
        dtypes = [part if isinstance(part, torch.dtype) else getattr(part, "dtype", None) for part in parts]
        dtype = next((str(dtype) for dtype in reversed(dtypes) if dtype), "")
        return UnreadableTensor(kind, next(shapes, None), dtype.removeprefix("torch."))

    def _from_type(self, args: tuple[Any, ...]) -> Any:
        """(function, class, arguments, attributes), of which the last are not read."""
        function, kind, inner = args[:3] if len(args) == 4 else (None, None, None)
        name = getattr(function, "name", "")
        if getattr(kind, "name", "") not in _TENSOR_CLASSES or not name.startswith(_REBUILD):
            raise UnreadablePickleError("a tensor of it is of no tensor class")
        if not isinstance(inner, tuple):
            raise UnreadablePickleError("a tensor of it has no arguments")
        return self.build(name, inner)

    def _unwrapped(self, args: tuple[Any, ...]) -> Any:
        if not args or not (self.is_tensor(args[0]) or isinstance(args[0], UnreadableTensor)):
            raise UnreadablePickleError("a parameter of it holds no tensor")
        return args[0]

    def _view(self, function: str, args: tuple[Any, ...]) -> Any:
        """(storage, offset, size, stride, requires_grad, hooks[, dtype][, metadata]), of which v3 has the dtype."""
        import torch

        if len(args) < 4 or not isinstance(args[0], Storage):
            raise UnreadablePickleError("a tensor of it has no storage")
        storage, rest = args[0], list(args[6:])
        dtype = storage.dtype
        if function == "tensor_v3":
            given = rest.pop(0) if rest else None
            if not isinstance(given, torch.dtype):
                raise UnreadablePickleError("a tensor of it has no dtype")
            dtype = str(given).removeprefix("torch.")
        if dtype is None:
            return UnreadableTensor("a quantised tensor")
        if dtype not in PLAIN_DTYPES:
            shape = args[2] if is_shape(args[2]) else None
            return UnreadableTensor(f"a tensor of {dtype}", shape, dtype)
        if rest and isinstance(rest[0], dict) and any(rest[0].values()):
            return UnreadableTensor("a conjugated or negated view")
        offset, shape, stride = (
            size_of(args[1], "an offset"),
            sizes_of(args[2], "a shape"),
            sizes_of(args[3], "a stride"),
        )
        check_extent(storage.record, _dtype(dtype).itemsize, offset, shape, stride)
        self._bytes_left -= math.prod(shape) * _dtype(dtype).itemsize
        if self._bytes_left < 0:
            raise PickleLimitError(
                f"its tensors together have more than {_MAX_TIMES_FILE} times as many bytes as the file"
            )
        values = self._values(storage.record, dtype)
        if not values.numel():
            return values.new_empty(shape)
        return values.as_strided(shape, stride, offset)

    def _values(self, record: Record, dtype: str) -> torch.Tensor:
        """All of a record as one tensor of a plain dtype; tensors that share a storage share it here too."""
        key = (record.name, dtype)
        if key not in self._storages:
            count = record.size_bytes // _dtype(dtype).itemsize
            self._storages[key] = mapped_values(self._map, _dtype(dtype), count, record.offset)
        return self._storages[key]


def _dtype(name: str) -> torch.dtype:
    import torch

    # names come from `_STORAGES` or `PLAIN_DTYPES`
    return cast("torch.dtype", vars(torch)[name])
