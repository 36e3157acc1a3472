"""Every reader of outside bytes reads damaged ones, or refuses them in words: a share of the long run."""

from __future__ import annotations

from pathlib import Path

import fuzz_readers
import pytest

CASES = 250
SEED = 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("name", fuzz_readers.READERS)
def test_damaged_bytes_are_read_or_refused_in_words(name: str, folder: Path) -> None:
    reader = fuzz_readers.make(name, folder)
    found = {
        number: text
        for number in range(CASES)
        if (text := fuzz_readers.finding(reader, reader.case(SEED, number)))
    }
    assert found == {}, "run one again: python tests/fuzz/fuzz_run.py READER --seed 0 --case NUMBER"


@pytest.mark.parametrize("name", fuzz_readers.READERS)
def test_sound_bytes_pass_so_that_damage_has_something_to_break(name: str, folder: Path) -> None:
    reader = fuzz_readers.make(name, folder)
    refused = [reader.examples.index(data) for data in reader.examples if not _accepted(reader, data)]
    # Pillow writes formats that no robot's camera has, and which are refused for that.
    assert len(refused) < len(reader.examples)


def test_a_case_is_the_same_every_time(folder: Path) -> None:
    reader = fuzz_readers.make("settings", folder)
    assert [reader.case(5, n) for n in range(50)] == [reader.case(5, n) for n in range(50)]
    assert reader.case(5, 1) != reader.case(6, 1)


def _accepted(reader: fuzz_readers.Reader, data: bytes) -> bool:
    from vla_edge.runtime import VlaError

    try:
        reader.read(data)
    except VlaError:
        return False
    return True
