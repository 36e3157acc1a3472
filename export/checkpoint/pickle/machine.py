"""The machine that a pickle is a program for: a stack, marks in it, and a memo. See `reader`."""

from __future__ import annotations

import re
import struct
from typing import Any, Protocol

from .limits import (
    KEPT_BYTES,
    MAX_DIGITS,
    MAX_INTEGER_BYTES,
    MAX_LINE_BYTES,
    Budget,
    LongText,
    PickleLimitError,
    UnreadablePickleError,
)

_DECIMAL = re.compile(rb"[+-]?[0-9]+$")


class Names(Protocol):
    """What the names in a pickle stand for."""

    def find(self, module: str, name: str) -> Any:
        """The stand-in for a class, a function or a constant."""

    def call(self, function: Any, args: Any, budget: Budget) -> Any:
        """The stand-in for what calling the stand-in of a function or class would give."""

    def set_state(self, value: Any, state: Any, budget: Budget) -> None:
        """Fill a stand-in as its class's `__setstate__` would."""

    def append(self, value: Any, items: list[Any]) -> None:
        """Add elements to a stand-in."""

    def set_items(self, value: Any, items: list[tuple[Any, Any]]) -> None:
        """Add keys and values to a stand-in."""

    def stored(self, identity: Any) -> Any:
        """What lies outside the pickle: a storage of the archive."""


class Machine:
    """The state of one reading; each method is an instruction, or what the reader asks."""

    def __init__(self, data: bytes, names: Names) -> None:
        self._data = data
        self._at = 0
        self._names = names
        self._budget = Budget()
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def next_opcode(self) -> int:
        opcode = self._data[self._at]
        self._at += 1
        return opcode

    def result(self) -> Any:
        return self._top()

    # --- operands ---

    def _take(self, size_bytes: int) -> bytes:
        end = self._at + size_bytes
        if end > len(self._data):
            raise UnreadablePickleError("it ends too early")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def _number(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return value

    def _line(self) -> bytes:
        end = self._data.find(b"\n", self._at, self._at + MAX_LINE_BYTES)
        if end < 0:
            raise PickleLimitError(f"a line of it has no end within {MAX_LINE_BYTES:,} bytes")
        line = self._data[self._at : end]
        self._at = end + 1
        return line

    # --- stack ---

    def _pop(self) -> Any:
        # what lies below the last mark is not this instruction's
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise UnreadablePickleError("it takes from an empty stack")
        return self._stack.pop()

    def _pop_to_mark(self) -> list[Any]:
        if not self._marks:
            raise UnreadablePickleError("it wants a mark where none is")
        at = self._marks.pop()
        items = self._stack[at:]
        del self._stack[at:]
        return items

    def _top(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise UnreadablePickleError("it takes from an empty stack")
        return self._stack[-1]

    # --- values ---

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def number(self, form: str) -> None:
        self._stack.append(self._number(form))

    def long(self, form: str) -> None:
        size_bytes = self._number(form)
        if not 0 <= size_bytes <= MAX_INTEGER_BYTES:
            raise PickleLimitError(
                f"an integer of it has {size_bytes:,} bytes, at most {MAX_INTEGER_BYTES} are read"
            )
        self._stack.append(int.from_bytes(self._take(size_bytes), "little", signed=True))

    def decimal(self) -> None:
        line = self._line()
        if line in (b"00", b"01"):
            self._stack.append(line == b"01")
        else:
            self._stack.append(_integer(line))

    def decimal_long(self) -> None:
        self._stack.append(_integer(self._line().removesuffix(b"L")))

    def decimal_float(self) -> None:
        line = self._line()
        try:
            self._stack.append(float(line[:64]))
        except ValueError as error:
            raise UnreadablePickleError(f"{line[:64]!r} in it is no number") from error

    def text(self, form: str, encoding: str) -> None:
        """Text, or for the encoding "bytes" bytes."""
        size_bytes = self._number(form)
        if size_bytes > KEPT_BYTES:
            if not size_bytes <= len(self._data) - self._at:
                raise UnreadablePickleError("it ends too early")
            self._at += size_bytes
            self._stack.append(LongText(size_bytes))
            return
        raw = self._take(size_bytes)
        self._budget.spend(size_bytes)
        self._stack.append(raw if encoding == "bytes" else raw.decode(encoding, "backslashreplace"))

    def text_line(self) -> None:
        self._stack.append(self._line().decode("raw-unicode-escape"))

    def quoted_line(self) -> None:
        self._stack.append(self._line().decode("latin1").strip("'\""))

    # --- collections ---

    def mark(self) -> None:
        self._marks.append(len(self._stack))

    def pop(self) -> None:
        if self._marks and len(self._stack) == self._marks[-1]:
            self._marks.pop()
        else:
            self._pop()

    def pop_mark(self) -> None:
        self._pop_to_mark()

    def duplicate(self) -> None:
        self._stack.append(self._top())

    def new_tuple(self, length: int) -> None:
        items = [self._pop() for _ in range(length)]
        self._stack.append(tuple(reversed(items)))

    def marked_tuple(self) -> None:
        self._stack.append(tuple(self._pop_to_mark()))

    def marked_list(self) -> None:
        self._stack.append(self._pop_to_mark())

    def marked_dict(self) -> None:
        items = self._pop_to_mark()
        self._stack.append({})
        self._set_items(items)

    def frozen_set(self) -> None:
        self._stack.append(frozenset(map(self._budget.key, self._pop_to_mark())))

    def append(self) -> None:
        self._append([self._pop()])

    def appends(self) -> None:
        self._append(self._pop_to_mark())

    def add_items(self) -> None:
        items = self._pop_to_mark()
        value = self._top()
        if isinstance(value, set):
            value.update(map(self._budget.key, items))
        else:
            self._names.append(value, items)

    def set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def set_items(self) -> None:
        self._set_items(self._pop_to_mark())

    def _append(self, items: list[Any]) -> None:
        value = self._top()
        if isinstance(value, list):
            value.extend(items)
        else:
            self._names.append(value, items)

    def _set_items(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise UnreadablePickleError("a dictionary of it has a key without a value")
        value = self._top()
        pairs = [(self._budget.key(key), item) for key, item in zip(items[::2], items[1::2], strict=True)]
        if isinstance(value, dict):
            value.update(pairs)
        else:
            self._names.set_items(value, pairs)

    # --- memo ---

    def put(self, form: str) -> None:
        self._memo[self._number(form)] = self._top()

    def put_line(self) -> None:
        self._memo[_integer(self._line())] = self._top()

    def memoize(self) -> None:
        self._memo[len(self._memo)] = self._top()

    def get(self, form: str) -> None:
        self._recall(self._number(form))

    def get_line(self) -> None:
        self._recall(_integer(self._line()))

    def _recall(self, index: int) -> None:
        if index not in self._memo:
            raise UnreadablePickleError(f"it asks for value {index:,}, which it has not made")
        self._stack.append(self._memo[index])

    # --- names ---

    def global_name(self) -> None:
        module, name = self._line().decode(), self._line().decode()
        self._stack.append(self._names.find(module, name))

    def stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise UnreadablePickleError("a name in it is no text")
        if max(len(name), len(module)) > MAX_LINE_BYTES:
            raise UnreadablePickleError("a name in it is too long")
        self._stack.append(self._names.find(module, name))

    def call(self) -> None:
        args, function = self._pop(), self._pop()
        self._stack.append(self._names.call(function, args, self._budget))

    def call_with_keywords(self) -> None:
        self._pop()
        self.call()

    def instance(self) -> None:
        module, name = self._line().decode(), self._line().decode()
        function, args = self._names.find(module, name), tuple(self._pop_to_mark())
        self._stack.append(self._names.call(function, args, self._budget))

    def marked_call(self) -> None:
        items = self._pop_to_mark()
        self._stack.append(self._names.call(items[0], tuple(items[1:]), self._budget))

    def build(self) -> None:
        state = self._pop()
        self._names.set_state(self._top(), state, self._budget)

    def stored(self) -> None:
        self._stack.append(self._names.stored(self._pop()))

    # --- framing ---

    def protocol(self) -> None:
        version = self._number("<B")
        if version > 5:
            raise UnreadablePickleError(f"it has protocol {version}, the newest known is 5")

    def frame(self) -> None:
        self._number("<Q")

    def nothing(self) -> None:
        pass


def _integer(line: bytes) -> int:
    if len(line) > MAX_DIGITS and line.strip(b"+-").isdigit():
        raise PickleLimitError(f"an integer of it has {len(line):,} digits, at most {MAX_DIGITS} are read")
    if not _DECIMAL.match(line):
        raise UnreadablePickleError(f"{line[:40]!r} in it is no integer")
    return int(line)
