"""No instruction holds a token with a meaning of its own; words that a tokenizer lacks are no such tokens."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from vla_edge.export.kosmos2.sample.tokenizer import build_tokenizer
from vla_edge.runtime.bundle.tokenizer.special_tokens import SpecialTokens

TEMPLATE = "<s><image> <image> <image> </image> {} </s>"


def held(tokenizer: Any, text: str, template: str = TEMPLATE) -> str | None:
    ids, bare_ids = (
        tokenizer.encode(template.format(each), add_special_tokens=False).ids for each in (text, "")
    )
    return SpecialTokens(tokenizer).held(text, ids, bare_ids)


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("<s>", "<s>"),
        ("go <image>", "<image>"),
        ("go</image>", "</image>"),
        ("<grounding> go", "<grounding>"),
        ("go to <patch_index_0003>", "<patch_index_0003>"),
        ("go <unk>", "<unk>"),
        ("go \uff1cs\uff1e", "<s>"),  # full-width letters, which the normaliser turns into the token
    ],
)
def test_special_tokens_and_tags_are_found(text: str, token: str) -> None:
    assert held(build_tokenizer(), text) == token


@pytest.mark.parametrize("text", ["컵까지 가세요", "go ⌘", "a < b > c", "< s >", "go to the image", "<0x41>"])
def test_ordinary_text_holds_none(text: str) -> None:
    assert held(build_tokenizer(), text) is None


def test_a_token_that_only_forms_where_the_template_ends_is_found() -> None:
    assert held(build_tokenizer(), "s> go", "<s><image> </image> <{}") == "<s>"


def unigram() -> Tokenizer:
    """As Kosmos-2's own: without bytes to fall back on, unknown words become `<unk>`, an added special token."""
    pieces = [(piece, 0.0) for piece in ("<s>", "<pad>", "</s>", "<unk>")] + [("\u2581go", -1.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer.add_special_tokens([AddedToken(each, normalized=False) for each in special])
    tokenizer.add_tokens(["<image>", "</image>", "cup"])
    return tokenizer


def word_level() -> Tokenizer:
    words = {word: at for at, word in enumerate(("<s>", "</s>", "[UNK]", "go"))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<s>", "</s>", "[UNK]"])
    tokenizer.add_tokens(["<image>", "</image>", "cup"])
    return tokenizer


@pytest.mark.parametrize("make", [unigram, word_level])
def test_unknown_words_and_words_added_to_the_vocabulary_are_allowed(make: Any) -> None:
    tokenizer = make()
    unknown = tokenizer.token_to_id("<unk>" if make is unigram else "[UNK]")
    assert unknown in tokenizer.encode("go 컵까지", add_special_tokens=False).ids
    assert held(tokenizer, "go 컵까지") is held(tokenizer, "go cup") is None
    assert held(tokenizer, "go </s>") == "</s>"
