"""Reading a pickle without running it.

A pickle is a program for a stack machine whose instructions call functions by name. This machine follows the
program but calls nothing of its choice: every name goes to `Names`, which answers with stand-ins of our own.
What it builds by itself are None, numbers, text, bytes, lists, tuples, sets and dictionaries.

All that a small file could make large is limited: instructions, text, integers, keys, elements copied.
Opcodes: Python's pickletools, protocols 0 to 5.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from .limits import MAX_STEPS, PickleLimitError, UnreadablePickleError
from .machine import Machine, Names


def read_pickle(data: bytes, names: Names) -> Any:
    """The value that a pickle describes, made of plain values and of the stand-ins that `names` gives.

    Values can be nested to any depth, and can contain themselves.

    Raises:
        UnreadablePickleError: it is damaged, of a newer protocol, or beyond a limit.
    """
    try:
        return _run(Machine(data, names))
    except (IndexError, struct.error) as error:
        raise UnreadablePickleError("it ends too early, or takes more than it has") from error
    except UnicodeDecodeError as error:
        raise UnreadablePickleError("a text in it is not UTF-8") from error


def _run(machine: Machine) -> Any:
    for _ in range(MAX_STEPS):
        opcode = machine.next_opcode()
        if opcode == _STOP:
            return machine.result()
        step = _OPCODES.get(opcode)
        if step is None:
            raise UnreadablePickleError(f"{opcode:#x} in it is no instruction")
        step(machine)
    raise PickleLimitError(f"it has more than {MAX_STEPS:,} instructions")


_Step = Callable[[Machine], None]
_STOP = ord(".")


def _with(step: Callable[..., None], *operands: Any) -> _Step:
    return lambda machine: step(machine, *operands)


_M = Machine
_OPCODES: dict[int, _Step] = {
    code[0]: step
    for code, step in {
        b"\x80": _M.protocol,
        b"\x95": _M.frame,
        b"N": _with(_M.push, None),
        b"\x88": _with(_M.push, True),
        b"\x89": _with(_M.push, False),
        b"I": _M.decimal,
        b"L": _M.decimal_long,
        b"F": _M.decimal_float,
        b"J": _with(_M.number, "<i"),
        b"K": _with(_M.number, "<B"),
        b"M": _with(_M.number, "<H"),
        b"G": _with(_M.number, ">d"),
        b"\x8a": _with(_M.long, "<B"),
        b"\x8b": _with(_M.long, "<i"),
        b"S": _M.quoted_line,
        b"V": _M.text_line,
        b"T": _with(_M.text, "<I", "latin1"),
        b"U": _with(_M.text, "<B", "latin1"),
        b"X": _with(_M.text, "<I", "utf-8"),
        b"\x8c": _with(_M.text, "<B", "utf-8"),
        b"\x8d": _with(_M.text, "<Q", "utf-8"),
        b"B": _with(_M.text, "<I", "bytes"),
        b"C": _with(_M.text, "<B", "bytes"),
        b"\x8e": _with(_M.text, "<Q", "bytes"),
        b"\x96": _with(_M.text, "<Q", "bytes"),
        b"(": _M.mark,
        b"0": _M.pop,
        b"1": _M.pop_mark,
        b"2": _M.duplicate,
        b")": _with(_M.new_tuple, 0),
        b"\x85": _with(_M.new_tuple, 1),
        b"\x86": _with(_M.new_tuple, 2),
        b"\x87": _with(_M.new_tuple, 3),
        b"t": _M.marked_tuple,
        b"]": lambda machine: machine.push([]),
        b"l": _M.marked_list,
        b"}": lambda machine: machine.push({}),
        b"d": _M.marked_dict,
        b"\x8f": lambda machine: machine.push(set()),
        b"\x91": _M.frozen_set,
        b"\x90": _M.add_items,
        b"a": _M.append,
        b"e": _M.appends,
        b"s": _M.set_item,
        b"u": _M.set_items,
        b"q": _with(_M.put, "<B"),
        b"r": _with(_M.put, "<I"),
        b"p": _M.put_line,
        b"\x94": _M.memoize,
        b"h": _with(_M.get, "<B"),
        b"j": _with(_M.get, "<I"),
        b"g": _M.get_line,
        b"c": _M.global_name,
        b"\x93": _M.stack_global,
        b"R": _M.call,
        b"\x81": _M.call,
        b"\x92": _M.call_with_keywords,
        b"i": _M.instance,
        b"o": _M.marked_call,
        b"b": _M.build,
        b"Q": _M.stored,
        b"\x98": _M.nothing,  # READONLY_BUFFER
    }.items()
}
