"""Of a tokenizer.json only what turns text into ids is used, after its kinds and sizes were checked."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from vla_edge.runtime.bundle.tokenizer.file import (
    MAX_TEXT_CHARACTERS,
    MAX_TOKENIZER_BYTES,
    TokenizerError,
    checked_json,
    load_tokenizer,
    text_ids,
)

TEXTS = ("<s><image> <image> </image> go  to the cup", "컵까지 가세요", "ﷺ\n\t①  ", "", "<unk> <pad>x")


def charsmap(*replacements: str, trie: bytes = b"\0" * 1024) -> str:
    data = len(trie).to_bytes(4, "little") + trie + b"".join(text.encode() + b"\0" for text in replacements)
    return base64.b64encode(data).decode()


def unigram() -> Tokenizer:
    """Like conversions of sentencepiece models, but small."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0), ("▁go", -1.5)]
    tokenizer = Tokenizer(models.Unigram([*pieces, *((letter, -4.0) for letter in "gothecup가컵")], 3, False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), "▁"), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.add_special_tokens(["<s>", "<image>", "</image>"])
    return tokenizer


def file_of(change: Callable[[dict[str, Any]], object] = lambda fields: None) -> bytes:
    fields = json.loads(unigram().to_str())
    change(fields)
    return json.dumps(fields, ensure_ascii=False).encode()


def refusal(data: bytes) -> str:
    with pytest.raises(TokenizerError) as raised:
        text_ids(load_tokenizer(data), "go to the cup")
    return str(raised.value)


def word_level() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"go": 0, "<unk>": 1, "cup": 7}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


@pytest.mark.parametrize("make", [unigram, word_level])
def test_ids_are_those_of_the_library(make: Callable[[], Tokenizer]) -> None:
    original = make()
    loaded = load_tokenizer(original.to_str(pretty=True).encode())
    for text in TEXTS:
        assert text_ids(loaded, text) == original.encode(text, add_special_tokens=False).ids
    assert checked_json(loaded.to_str().encode()) == checked_json(original.to_str().encode())


def test_files_of_older_versions_are_read() -> None:
    metaspace = {"type": "Metaspace", "replacement": "▁", "str_rep": "▁", "add_prefix_space": True}

    def older(fields: dict[str, Any]) -> None:
        fields["pre_tokenizer"] = {
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace],
        }
        del fields["model"]["byte_fallback"]

    loaded = load_tokenizer(file_of(older))
    assert text_ids(loaded, "go go") == text_ids(unigram(), "go go")


def test_nothing_that_was_stored_by_a_call_reaches_the_ids() -> None:
    stored = unigram()
    stored.enable_truncation(2)
    stored.enable_padding(length=20)
    assert text_ids(load_tokenizer(stored.to_str().encode()), "go to the cup") == text_ids(
        unigram(), "go to the cup"
    )


def test_a_file_whose_unused_parts_are_hostile_is_read_past_them() -> None:
    def change(fields: dict[str, Any]) -> None:
        deep: Any = {"type": "Sequence", "decoders": []}
        for _ in range(300):
            deep = {"type": "Sequence", "decoders": [deep]}
        fields["decoder"] = deep
        fields["padding"] = {"strategy": {"Fixed": 10**12}}

    assert text_ids(load_tokenizer(file_of(change)), "go") == text_ids(unigram(), "go")


def set_normalizer(*parts: dict[str, Any]) -> Callable[[dict[str, Any]], object]:
    return lambda fields: fields.update(normalizer={"type": "Sequence", "normalizers": list(parts)})


def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.update(run_this="rm"), "unknown field `run_this`"),
        (lambda f: f["model"].update(type="BPE", merges=[]), "Invalid value 'BPE'"),
        (lambda f: f.update(pre_tokenizer={"type": "Split"}), "Invalid value 'Split'"),
        (set_normalizer({"type": "Sequence", "normalizers": []}), "Invalid value 'Sequence'"),
        (set_normalizer(*[{"type": "NFC"}] * 9), "length <= 8"),
        (set_normalizer(replace({"Regex": "(a+)+$"}, "")), "replaces the Regex '(a+)+$'"),
        (set_normalizer(replace({"String": ""}, "a")), "length >= 1"),
        (set_normalizer(replace({}, "a")), "neither a String nor a Regex"),
        (set_normalizer(replace({"String": "a", "Regex": " {2,}"}, "a")), "neither a String nor a Regex"),
        (set_normalizer(*[replace({"String": "a"}, "a" * 16)] * 8), "4294967296 times as long"),
        (set_normalizer({"type": "Precompiled", "precompiled_charsmap": "?"}), "is not base64"),
        (set_normalizer({"type": "Precompiled", "precompiled_charsmap": "/////w=="}), "is cut short"),
        (set_normalizer({"type": "Precompiled", "precompiled_charsmap": ""}), "is cut short"),
        (
            set_normalizer({"type": "Precompiled", "precompiled_charsmap": charsmap("x" * 1000)}),
            "1000 times as long",
        ),
        (lambda f: f["model"]["vocab"].append(["", -1.0]), "length >= 1"),
        (lambda f: f["model"]["vocab"].append(["x" * 201, -1.0]), "length <= 200"),
        (lambda f: f["model"]["vocab"].append(["x", -1e300]), "Expected `float` >="),
        (lambda f: f["model"].update(vocab=[]), "length >= 1"),
        (
            lambda f: f["model"]["vocab"].extend([f"{at:0200}", -1.0] for at in range(16_000)),
            "the texts of its vocabulary take 32000",
        ),
        (
            lambda f: f.update(added_tokens=[{**f["added_tokens"][0], "content": "x" * 200}] * 2000),
            "the texts of its added tokens take 400000 bytes",
        ),
        (lambda f: f["model"].update(unk_id=10**5), "its unk_id 100000 is beyond"),
        (lambda f: f["model"].update(unk_id=2**40), "Expected `int` <= 1048575"),
        (lambda f: f["added_tokens"][0].update(id=2**32 - 1), "Expected `int` <= 1048575"),
        (lambda f: f["added_tokens"][0].update(content=""), "length >= 1"),
        (lambda f: f.update(added_tokens=f["added_tokens"] * 5000), "length <= 8192"),
        (lambda f: f["pre_tokenizer"]["pretokenizers"][1].update(replacement="ab"), "length <= 1"),
        (lambda f: f["pre_tokenizer"]["pretokenizers"][1].update(prepend_scheme="x"), "prepend_scheme 'x'"),
        (
            lambda f: f.update(model={"type": "WordLevel", "vocab": {"a": 2**31}, "unk_token": "a"}),
            "Expected `int` <= 1048575",
        ),
        (
            lambda f: f.update(model={"type": "WordLevel", "vocab": {"a": 1}, "unk_token": "b"}),
            "its unk_token 'b' is not in the vocabulary",
        ),
    ],
)
def test_other_kinds_and_sizes_are_refused(change: Callable[[dict[str, Any]], object], words: str) -> None:
    assert words in refusal(file_of(change))


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("  ", [replace({"String": " "}, "")]),
        ("\n\n", [replace({"Regex": "\\s+"}, "a"), replace({"String": "a"}, "")]),
        (" ", [{"type": "Strip", "strip_left": True, "strip_right": True}]),
    ],
)
def test_an_added_token_of_which_nothing_is_left_is_refused(
    content: str, parts: list[dict[str, Any]]
) -> None:
    def change(fields: dict[str, Any]) -> None:
        fields["added_tokens"][0].update(content=content, normalized=True)
        set_normalizer(*parts)(fields)

    assert f"leaves nothing of the added token {content!r}" in refusal(file_of(change))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"[" * 10**5,
        b'{"a":' * 10**5,
        b'{"model":' * 2000,
        b'{"version":"\\ud800"}',
    ],
)
def test_what_is_no_tokenizer_is_refused(data: bytes) -> None:
    refusal(data)


def test_a_file_of_many_bytes_is_not_decoded() -> None:
    assert "it has more than" in refusal(b" " * (MAX_TOKENIZER_BYTES + 1))


def test_a_panic_of_the_library_is_a_tokenizer_error(capfd: pytest.CaptureFixture[str]) -> None:
    broken = charsmap("a", trie=b"\xff" * 1024)  # its units lead out of the array
    change = set_normalizer({"type": "Precompiled", "precompiled_charsmap": broken})
    assert "the package tokenizers failed on it" in refusal(file_of(change))


@pytest.mark.parametrize(
    ("text", "words"),
    [("go \ud800", "half a character"), ("a" * (MAX_TEXT_CHARACTERS + 1), "has 100001 char")],
)
def test_texts_that_the_library_cannot_bear_are_refused(text: str, words: str) -> None:
    with pytest.raises(TokenizerError, match=words):
        text_ids(unigram(), text)


def test_an_interrupt_in_the_library_is_no_tokenizer_error() -> None:
    class Interrupted:
        def no_truncation(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        text_ids(Interrupted(), "go")


def test_damaged_files_are_read_or_refused(capfd: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(4)
    sound = file_of()
    for _ in range(2000):
        data = bytearray(sound)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(data))
            data[at : at + rng.randint(0, 3)] = rng.choice(
                (
                    b"9",
                    b"0",
                    b'"',
                    b"null",
                    b"-",
                    b"e9",
                    b"[",
                    b"}",
                    b",",
                    b"true",
                    b"\x00",
                    bytes([data[at] ^ 1]),
                )
            )
        try:
            loaded = load_tokenizer(bytes(data))
            for text in TEXTS:
                text_ids(loaded, text)
        except TokenizerError:
            pass
