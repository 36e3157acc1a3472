"""What every reader of outside bytes has for the fuzzer: examples, their damage, the way in."""

from __future__ import annotations

import random
from pathlib import Path

from fuzz_mutate import mutate_bytes


class Reader:
    """One kind of outside bytes.

    Args:
        folder: of this reader alone; its files are overwritten by every case.

    Attributes:
        examples: sound bytes, from which cases are made.
    """

    examples: list[bytes]

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.prepare()

    def case(self, seed: int, number: int) -> bytes:
        """The bytes of a case; the same for the same numbers."""
        rng = random.Random(f"{type(self).__name__}:{seed}:{number}")
        return self.mutate(rng, rng.choice(self.examples))

    def prepare(self) -> None:
        """Make the examples, and what stands around them."""
        raise NotImplementedError

    def mutate(self, rng: random.Random, data: bytes) -> bytes:
        return mutate_bytes(rng, data)

    def read(self, data: bytes) -> None:
        """Read as the product does.

        Raises:
            VlaError: refused; anything else is a finding.
        """
        raise NotImplementedError
