"""Reading a mapped file that another process cuts: zeros and a flag, where there would be a fatal signal.

Touching a page of a map that has no file behind it any more ends a process with SIGBUS, in the middle of whatever
read it. The weights have to be mapped, since they need not fit into memory, so the signal is handled: zeros
are laid over the whole map, the reading instruction goes on, and `lost` tells afterwards that what was read is
worth nothing. Whoever uses the map asks that before anything is published.

The handler is Python, called through ctypes in the thread that read. That is sound for this signal, which is no
interruption from outside: it strikes at an instruction that reads the map, in torch's arithmetic, which holds
neither the interpreter's lock for another thread nor the allocator's.
"""

from __future__ import annotations

import ctypes
import mmap
import signal
import struct
import sys
import threading
import weakref
from typing import Any

_SA_SIGINFO = 4
_MAP_FIXED = 0x10
_MAP_FAILED = ctypes.c_void_p(-1).value
_ADDRESS_AT = 16  # of si_addr in siginfo_t, on 64-bit Linux
_MASK_BYTES = 128


class GuardedMap:
    """A private map of a whole file. `map` can be given to `torch.frombuffer`.

    It guards as long as it is referenced. Tensors that outlive it end their process with the signal again, since
    nobody is left who would ask `lost`.

    Raises:
        OSError, ValueError: the file cannot be mapped.
    """

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self.lost = False
        self.map = mmap.mmap(descriptor, size_bytes, access=mmap.ACCESS_COPY)
        self._size_bytes = -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        _guard(self)

    def cover(self, address: int) -> bool:
        """Lay zeros over the map if the address lies in it."""
        if not self._start <= address < self._start + self._size_bytes:
            return False
        self.lost = True
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        return bool(_LIBC.mmap(self._start, self._size_bytes, protection, flags, -1, 0) != _MAP_FAILED)


class _Action(ctypes.Structure):
    """struct sigaction of Linux's C libraries on 64-bit machines."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_char * _MASK_BYTES),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


_LIBC = ctypes.CDLL(None)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
)

_maps: weakref.WeakSet[GuardedMap] = weakref.WeakSet()
_before = _Action()
_installing = threading.Lock()
_installed = False


def _guard(guarded: GuardedMap) -> None:
    global _installed
    _maps.add(guarded)
    if not sys.platform.startswith("linux") or struct.calcsize("P") != 8:
        return
    with _installing:
        if not _installed:
            action = _Action(ctypes.cast(_handler, ctypes.c_void_p).value, bytes(_MASK_BYTES), _SA_SIGINFO)
            _installed = not _LIBC.sigaction(signal.SIGBUS, ctypes.byref(action), ctypes.byref(_before))


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
def _handler(number: int, info: Any, context: Any) -> None:
    address = ctypes.c_uint64.from_address(info + _ADDRESS_AT).value
    if not any(guarded.cover(address) for guarded in list(_maps)):
        # not ours: what stood here before meets the signal again when the instruction is repeated
        _LIBC.sigaction(number, ctypes.byref(_before), None)
