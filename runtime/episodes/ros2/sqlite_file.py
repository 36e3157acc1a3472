"""A bag in SQLite, rosbag2's own format before Iron: plain tables only, opened for reading."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vla_edge.runtime.errors import EpisodeError

from .bag_file import MAX_MESSAGE_BYTES, MAX_MESSAGES, MAX_TOPICS, Stored, Topic
from .messages import COMMANDS, IMAGES

_KINDS = (*IMAGES, *COMMANDS)
_TOPICS = """
SELECT id, substr(name, 1, 256), type FROM topics
WHERE type IN (?, ?, ?, ?) AND serialization_format = 'cdr' LIMIT ?
"""
# sizes first: a message that is too long is not read
_MESSAGES = """
SELECT rowid, topic_id, timestamp, length(data) FROM messages WHERE topic_id IN
(SELECT id FROM topics WHERE type IN (?, ?, ?, ?) AND serialization_format = 'cdr') ORDER BY rowid LIMIT ?
"""
_RECOVER = "It was cut short or damaged: ros2 bag reindex, or leave it out."


class SqliteFile:
    """See `bag_file.BagFile`. Places are row numbers.

    Args:
        path: begins with SQLite's magic.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        journal = path.with_name(path.name + "-wal")
        if journal.exists() and journal.stat().st_size:
            raise EpisodeError(f"{path} was not closed: {journal.name} holds the rest of it.", _RECOVER)
        # immutable: no journal and no lock is looked for beside it, and none is written
        # Frames may be begun in a camera's thread and ended in another, though never in two at once.
        self._connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
        )
        try:
            # what a stranger's schema calls is not called
            self._connection.execute("PRAGMA trusted_schema=OFF")
            for table in ("topics", "messages"):
                self._require_plain(table)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def messages(self) -> Iterator[Stored]:
        topics = self._topics()
        rows = self._connection.execute(_MESSAGES, (*_KINDS, MAX_MESSAGES + 1))
        for count, (row, topic, log_ns, size) in enumerate(rows):
            if count >= MAX_MESSAGES:
                raise EpisodeError(
                    f"{self._path} has more than {MAX_MESSAGES} messages.", "Split the recording."
                )
            if not isinstance(log_ns, int) or not isinstance(size, int) or size > MAX_MESSAGE_BYTES:
                raise EpisodeError(
                    f"{self._path} has a message of {size} bytes, at most {MAX_MESSAGE_BYTES} are read.",
                    "It is damaged: leave it out.",
                )
            yield Stored(topics[topic], log_ns, self.again(row), row)

    def again(self, place: Any) -> bytes:
        found = self._connection.execute("SELECT data FROM messages WHERE rowid = ?", (place,)).fetchone()
        if found is None or not isinstance(found[0], bytes):
            raise EpisodeError(f"{self._path} has a message that is not there.", _RECOVER)
        return found[0]

    def _topics(self) -> dict[int, Topic]:
        """Of the kinds that are read, by their number."""
        rows = self._connection.execute(_TOPICS, (*_KINDS, MAX_TOPICS)).fetchall()
        return {row[0]: Topic(str(row[1]), str(row[2])) for row in rows}

    def _require_plain(self, table: str) -> None:
        """A view, or a table that a module makes up, would run what its maker wrote."""
        found = self._connection.execute(
            "SELECT type, substr(sql, 1, 13) FROM sqlite_master WHERE name = ?", (table,)
        ).fetchone()
        plain = found is not None and found[0] == "table" and str(found[1]).upper() == "CREATE TABLE "
        # a column that is computed may be of any size
        hidden = "SELECT count(*) FROM pragma_table_xinfo(?) WHERE hidden != 0"
        if not plain or self._connection.execute(hidden, (table,)).fetchone()[0]:
            raise EpisodeError(
                f"{self._path} is no rosbag2 file: it has no plain table {table!r}.", "Give a bag of ROS 2."
            )
