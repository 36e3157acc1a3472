"""Files appear whole, whoever else writes them."""

from __future__ import annotations

from pathlib import Path

from vla_edge.runtime.files.atomic import write_atomically


def test_two_writers_of_one_file_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    """As two containers do that share a folder, where both processes are number 1."""
    path = tmp_path / "plan.json"

    def write(file: object) -> None:
        write_atomically(path, lambda other: other.write(b"the faster one"))
        assert path.read_bytes() == b"the faster one"
        file.write(b"the slower one")  # type: ignore[attr-defined]

    write_atomically(path, write)
    assert path.read_bytes() == b"the slower one"
    assert list(tmp_path.iterdir()) == [path]
