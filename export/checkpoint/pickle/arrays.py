"""NumPy's values in a pickle: kept as bytes beside a checked dtype, never given to NumPy's own unpickling.

`dtype.__setstate__` and `ndarray.__setstate__` take pointers and flags on trust; a file that names them can
write to any address.
"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass, replace
from typing import Any

from .limits import LongText, UnreadablePickleError

# Larger arrays are described; a checkpoint's metadata has none.
LISTED_VALUES = 16
_MAX_AXES = 64
# Kinds and sizes in bytes of the values that are read: booleans, integers, floating point, complex numbers, text.
_READ = re.compile(r"(b1|i[1248]|u[1248]|f[248]|c8|c16|S[0-9]{1,4}|U[0-9]{1,4})$")
_NAMED = re.compile(r"[A-Za-z?][A-Za-z0-9\[\], ]{0,40}$")


@dataclass
class ArrayType:
    """A dtype: kind and size such as "f8", and "<" or ">" for the order of its bytes.

    A pickle can give it another state at any time: arrays keep a copy.
    """

    kind: str
    order: str = "<"

    @property
    def readable(self) -> bool:
        return _READ.match(self.kind) is not None

    @property
    def value_bytes(self) -> int:
        size = int(self.kind[1:])
        return 4 * size if self.kind[0] == "U" else size

    def set_state(self, state: Any) -> None:
        """The second part of a pickled dtype: (version, order, subarray, names, fields, ...)."""
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "="):
            raise UnreadablePickleError("the state of a NumPy dtype is no such state")
        self.order = ">" if state[1] == ">" else "<"
        if any(part is not None for part in state[2:5]):
            self.kind = "structured"


@dataclass
class Array:
    """A NumPy array or scalar. `data` is None where it is not read: long, of objects, or structured."""

    type: ArrayType
    shape: tuple[int, ...] = ()
    data: bytes | None = None
    by_columns: bool = False

    def set_state(self, state: Any) -> None:
        """The second part of a pickled array: ([version], shape, dtype, by columns, bytes or list)."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise UnreadablePickleError("the state of a NumPy array is no such state")
        shape, kind, by_columns, data = state[-4:]
        filled = array_of(kind, shape, data, bool(by_columns))
        self.type, self.shape, self.data, self.by_columns = (
            filled.type,
            filled.shape,
            filled.data,
            filled.by_columns,
        )

    def plain(self) -> Any:
        """Its values as numbers and lists, or a description of a larger one."""
        described = f"array {list(self.shape)} {self.type.kind}"
        if self.data is None or math.prod(max(size, 1) for size in self.shape) > LISTED_VALUES:
            return described
        import numpy as np

        if not self.type.value_bytes:  # of empty text, which NumPy has in no buffer
            return np.zeros(self.shape, self.type.kind[0] + "1").tolist()
        if self.type.kind[0] == "U":
            letters = np.frombuffer(self.data, self.type.order + "u4")
            if letters.size and int(letters.max()) > sys.maxunicode:
                return described
        values = np.frombuffer(self.data, np.dtype(self.type.order + self.type.kind))
        return values.reshape(self.shape, order="F" if self.by_columns else "C").tolist()


def array_type(name: Any) -> ArrayType:
    """The dtype of a name such as "f8", or of the class of a record."""
    if getattr(name, "name", "") in ("numpy.record", "numpy.rec.record", "numpy.void"):
        return ArrayType("structured")
    if not isinstance(name, str) or not _NAMED.match(name):
        raise UnreadablePickleError("the name of a NumPy dtype is no such name")
    return ArrayType(name)


def array_of(kind: Any, shape: Any, data: Any, by_columns: bool = False) -> Array:
    """An array whose bytes are as many as its shape and dtype say.

    Raises:
        UnreadablePickleError: they are not, or a part is of another type.
    """
    if not isinstance(kind, ArrayType):
        raise UnreadablePickleError("the dtype of a NumPy array is none")
    kind = replace(kind)
    sizes = (shape,) if isinstance(shape, int) else shape
    if (
        not isinstance(sizes, tuple)
        or len(sizes) > _MAX_AXES
        or not all(type(size) is int and 0 <= size < 1 << 62 for size in sizes)
    ):
        raise UnreadablePickleError("the shape of a NumPy array is no shape")
    if not kind.readable or isinstance(data, (list, LongText)):
        return Array(kind, sizes)
    if not isinstance(data, bytes) or len(data) != math.prod(sizes) * kind.value_bytes:
        raise UnreadablePickleError(
            f"a NumPy array of {kind.kind} does not have as many bytes as its shape says"
        )
    return Array(kind, sizes, data, by_columns)
