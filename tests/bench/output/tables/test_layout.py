"""A table as lines: everything is there, in its column, and nothing is wider than asked."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from vla_edge.bench.output.tables.grid import Grid, Line
from vla_edge.bench.output.tables.layout import LEAST_WIDTH, fold, lay_out


def grid(*rows: tuple[str, ...], words: int = 1) -> Grid:
    headings = tuple(f"h{at}" for at in range(len(rows[0])))
    return Grid("t", "a table", headings[:words], headings[words:], tuple(Line(row) for row in rows))


def text(table: Grid, width: int | None = None) -> list[str]:
    return [line.text for line in lay_out(table, width)]


def test_figures_are_set_right_and_words_left() -> None:
    assert text(grid(("a", "1.25"), ("long name", "10.50"))) == [
        "h0            h1",
        "---------  -----",
        "a           1.25",
        "long name  10.50",
    ]


def test_columns_that_do_not_fit_go_on_below_with_their_rows_named_again() -> None:
    assert text(grid(("net one", *"1234567"), ("net two", *"7654321")), 30)[4:] == [
        "",
        "h0       h6  h7",
        "-------  --  --",
        "net one   6   7",
        "net two   2   1",
    ]


def test_a_name_is_folded_where_that_makes_the_table_whole() -> None:
    assert text(grid(("PyTorch compiled reduce overhead", "1.0", "2.0")), 40)[2:] == [
        "PyTorch compiled reduce         1.0  2.0",
        "overhead",
    ]


def test_rows_of_one_name_stand_below_it_in_every_part() -> None:
    rows = [("net", "vision", "1" * 20, "2" * 20), ("net", "text", "3" * 20, "4" * 20)]
    assert [line.split()[0] for line in text(grid(*rows, words=2), 40) if line] == [
        *("h1", "------", "h0:", "vision", "text"),
        *("h1", "------", "h0:", "vision", "text"),
    ]
    assert [line.split()[:2] for line in text(grid(*rows, words=2))[2:]] == [
        ["net", "vision"],
        ["net", "text"],
    ]


cells = st.text(st.sampled_from("ab 1é漢"), max_size=70)
tables = st.integers(1, 6).flatmap(
    lambda count: st.tuples(
        st.integers(1, count), st.lists(st.tuples(*[cells] * count), min_size=1, max_size=5)
    )
)


@example((2, [("", "", "", "1" * 50), ("1", "", "", ""), ("", "1" * 13, "", ""), ("", "1" * 13, "", "")]), 50)
@given(tables, st.integers(LEAST_WIDTH + 20, 200))
def test_no_line_is_too_wide_and_no_letter_is_lost(
    made: tuple[int, list[tuple[str, ...]]], width: int
) -> None:
    words, rows = made
    shown = text(grid(*rows, words=words), width)
    assert max(map(cell_len, shown)) <= width or words > 3
    # what rows share in a naming column may be told once, above them
    columns = (column if at >= words else set(column) for at, column in enumerate(zip(*rows, strict=True)))
    wanted = "".join(cell for column in columns for cell in column)
    for letter in "a1é漢":
        assert sum(line.count(letter) for line in shown) >= wanted.count(letter)


@pytest.mark.parametrize(
    ("words", "width", "lines"),
    [
        ("one two three", 7, ["one two", "three"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("漢字漢字", 4, ["漢字", "漢字"]),
        ("", 5, [""]),
    ],
)
def test_a_text_is_broken_between_words(words: str, width: int, lines: list[str]) -> None:
    assert fold(words, width) == lines
