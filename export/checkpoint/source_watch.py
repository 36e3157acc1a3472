"""The checkpoint while it is exported: hashed beside the work, and looked at after each step."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .checkpoint import StoredPolicy


class SourceWatch:
    """Hashes a checkpoint on another thread, and notices that its file was changed or is damaged."""

    def __init__(self, checkpoint: StoredPolicy, pool: Executor) -> None:
        self._file = checkpoint.file
        self._hash = pool.submit(checkpoint.sha256)

    def check(self) -> None:
        """
        Raises:
            CheckpointError: the file was changed since it was opened, or a checksum in it is wrong, as far as
                it has been read.
        """
        self._file.check_unchanged()
        if self._hash.done():
            self._hash.result()

    def checked(self, advance: Callable[[int], None]) -> Callable[[int], None]:
        """`advance`, with a check after each step: nobody waits a minute for what is refused at the end."""

        def step(amount: int) -> None:
            advance(amount)
            self.check()

        return step

    def sha256(self) -> str:
        """The hash of the whole file, which is still what it was when it was opened.

        Raises:
            CheckpointError: as `check`.
        """
        found = self._hash.result()
        self.check()
        return found
