"""A settings file and `--set` say what JSON can say; whatever else they hold is an InputError that names them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_edge.export.settings.text import MAX_BYTES, parse_options, read_settings_file
from vla_edge.runtime.errors import InputError

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def written(folder: Path, content: str | bytes, name: str = "settings.yaml") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as raised:
        read_settings_file(path)
    assert str(path) in raised.value.problem
    assert raised.value.hint
    return raised.value.problem


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("pooling: mean\nfinal_tanh: true\n", {"pooling": "mean", "final_tanh": True}),
        (
            "action_scale: [1, 2.5]\naction_offset:\n- -0.1\n- 1e-3\n",
            {"action_scale": [1, 2.5], "action_offset": [-0.1, 1e-3]},
        ),
        ('instructions: ["컵까지 가세요", go: no]', {"instructions": ["컵까지 가세요", {"go": "no"}]}),
        (
            "instructions: [컵까지 가세요, 'no', no, 12:30, 2026-01-01, 0x10]\n",
            {"instructions": ["컵까지 가세요", "no", "no", "12:30", "2026-01-01", "0x10"]},
        ),
        ("\ufeffpooling: mean", {"pooling": "mean"}),
        ("# only a remark\npooling: ~\n", {"pooling": None}),
        ("{pooling: mean}", {"pooling": "mean"}),
        ('{\n\t"pooling": "mean", "action_scale": [1, 2]}', {"pooling": "mean", "action_scale": [1, 2]}),
        ('{"instructions": ["\\ud83d\\ude00 \\/"]}', {"instructions": ["😀 /"]}),
        ("frame: |\n  current\n", {"frame": "current\n"}),
    ],
)
def test_yaml_and_json_are_read_as_what_json_can_say(tmp_path: Path, content: str, wanted: Any) -> None:
    assert read_settings_file(written(tmp_path, content)) == wanted


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LAUGHS, "it has an anchor or alias (line 1)"),
        ("a: *b", "undefined alias|anchor or alias"),
        ("<<: {a: 1}\na: !!int 3", "the tag 'tag:yaml.org,2002:int'"),
        (
            "a: !!python/object/apply:os.system [echo]",
            "the tag 'tag:yaml.org,2002:python/object/apply:os.system'",
        ),
        ("a: !!binary aGVsbG8=", "the tag 'tag:yaml.org,2002:binary'"),
        ("a: !!timestamp 2026-01-01", "the tag "),
        ("a: !x y", "the tag '!x'"),
        ("a: 1\na: 2", "'a' is there twice"),
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ("1: a", "the name 1 is no text"),
        ("[a, b]: c", "is no text"),
        ("? {a: b}\n: c", "is no text"),
        ("null: c", "the name None is no text"),
        ("a: " + "[" * 100_000, "is nested more than 4 deep"),
        ('{"a": ' + "[" * 200_000, "is nested more than 4 deep"),
        ("- " * 50_000, "is nested more than 4 deep"),
        ("a: [" + "1," * 30_000 + "]", "more than 10000 values"),
        ("a: " + "9" * 5000, "has more than 64 bits"),
        ('{"a": ' + "9" * 5000 + "}", "has more than 64 bits"),
        ("a: 99999999999999999999", "more than 64 bits"),
        ('a: "\\ud800"', ""),
        ('{"a": "\\ud800"}', "no UTF-8"),
        (b"a: \xff\xfe", "no UTF-8"),
        ("a: b".encode("utf-16"), "no UTF-8"),
        ('a: "\\UFFFFFFFF"', ""),
        ("a: \x00", ""),
        ("a: [", ""),
        ("a: b: c", "line 1"),
        ("\tа: b", ""),
        ("%YAML 9.9\n---\na: b", ""),
        ("a: 1\n---\na: 2", "more than one document"),
        ("", "holds nothing, not a mapping"),
        ("- a", "holds a list, not a mapping"),
        ("just text", "holds a str, not a mapping"),
        ("a: 'open", ""),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_whatever_else_it_holds_is_refused_by_name(tmp_path: Path, content: str | bytes, words: str) -> None:
    problem = refusal(written(tmp_path, content))
    assert any(each in problem for each in words.split("|"))
    assert "\n" not in problem


@pytest.mark.parametrize(
    "word", ["9" * 500_000 + "x", "9" * 500_000 + ".", "1e" + "9" * 500_000, "-" * 500_000]
)
def test_a_long_word_that_is_almost_a_number_is_text_at_once(tmp_path: Path, word: str) -> None:
    assert read_settings_file(written(tmp_path, f"a: {word}")) == {"a": word}


def test_a_json_file_is_read_as_json_only(tmp_path: Path) -> None:
    assert "is not YAML or JSON" in refusal(written(tmp_path, "pooling: mean", "settings.json"))
    assert read_settings_file(written(tmp_path, '{"pooling": "mean"}', "settings.JSON")) == {
        "pooling": "mean"
    }


def test_only_a_regular_file_of_a_sane_size_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    assert "it is not a regular file" in refusal(pipe)
    assert "it is not a regular file" in refusal(tmp_path)
    endless = tmp_path / "endless.yaml"
    endless.symlink_to("/dev/zero")
    assert "it is not a regular file" in refusal(endless)
    large = tmp_path / "large.yaml"
    with large.open("wb") as file:
        file.truncate(900 << 30)
    assert f"has more than {MAX_BYTES} bytes" in refusal(large)
    assert "No such file" in refusal(tmp_path / "gone.yaml")


def test_a_linked_settings_file_is_followed(tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to(written(tmp_path, "pooling: mean"))
    assert read_settings_file(link) == {"pooling": "mean"}


LETTERS = "ab:-[]{}&*!|>\"'\\u0Ux\n\t ,#%?~1.e+"


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(alphabet=LETTERS, max_size=60).map(str.encode)))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = written(tmp_path_factory.getbasetemp(), content)
    with contextlib.suppress(InputError):
        assert isinstance(read_settings_file(path), dict)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (["pooling"], "--set 'pooling' has no '='"),
        (["=mean"], "has no name before its '='"),
        (["  =mean"], "has no name before its '='"),
        (["pooling=mean", "pooling =max"], "--set pooling is given twice"),
        (["a=" + "[" * 100_000], "--set a cannot be read: it is nested more than 4 deep"),
        (["a=" + "9" * 5000], "--set a cannot be read: the whole number 9999999999999999999999999 has"),
        (["a=1" + "0" * 30], "has more than 64 bits"),
        (["a=\udcff"], "--set a cannot be read: it has text that is no UTF-8"),
        (['a="\\ud800"'], "no UTF-8"),
        (['a={"b": 1, "b": 2}'], "'b' is there twice"),
    ],
    ids=lambda value: str(value)[:30].encode("ascii", "replace").decode(),
)
def test_an_option_that_cannot_be_read_is_refused_by_name(pairs: list[str], words: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_options(pairs)
    assert words in raised.value.problem
    assert raised.value.hint


def test_an_option_may_hold_equals_signs_and_nothing() -> None:
    assert parse_options(["default_instruction=a=b", "pooling="]) == {
        "default_instruction": "a=b",
        "pooling": "",
    }


@pytest.mark.parametrize(
    "text", ["features=[" + "[" * 2_000_000, "x" * 2_000_000, "pooling=" + "1" * 2_000_000]
)
def test_an_option_of_millions_of_letters_is_refused_before_it_is_read(text: str) -> None:
    with pytest.raises(InputError, match=r"has 2,000,0\d\d letters"):
        parse_options([text])
