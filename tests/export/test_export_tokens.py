"""Prompts: Kosmos-2's form, reduced embeddings, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_edge.export.sample_sizes import sample_architecture
from vla_edge.export.sample_tokenizer import build_tokenizer, write_tokenizer
from vla_edge.export.settings import resolve_settings
from vla_edge.export.tokens import build_prompts, find_tokenizer, load_tokenizer, parse_explicit_ids
from vla_edge.runtime.errors import InputError

ARCH = sample_architecture("pure", "none", "tiny")
SETTINGS = resolve_settings(ARCH).values
TOKENIZER = build_tokenizer()
IMAGE_END = SETTINGS.image_start + ARCH.image_tokens


def prompts(**changes):
    arguments = {
        "tokenizer": TOKENIZER,
        "explicit_ids": {},
        "keep_vocabulary": False,
        "length": None,
        **changes,
    }
    return build_prompts(ARCH, arguments.pop("settings", SETTINGS), **arguments)


def test_a_prompt_has_the_form_that_the_processor_writes() -> None:
    ids = prompts().instructions[0].token_ids
    begin, image, end = (TOKENIZER.token_to_id(token) for token in ("<s>", "<image>", "</image>"))
    assert ids[:2] == (begin, image)
    assert ids[IMAGE_END] == end
    assert TOKENIZER.decode(list(ids[IMAGE_END + 1 :])).strip() == SETTINGS.instructions[0]


def test_only_the_embedding_rows_of_declared_instructions_are_kept() -> None:
    made = prompts()
    assert made.kept_ids is not None
    assert made.prompt.vocabulary == "declared"
    assert made.prompt.vocabulary_rows == len(made.kept_ids) < ARCH.text.vocabulary
    for instruction in made.instructions:
        outside = [
            at for at in range(len(instruction.token_ids)) if not SETTINGS.image_start <= at < IMAGE_END
        ]
        assert [made.kept_ids[instruction.graph_ids[at]] for at in outside] == [
            instruction.token_ids[at] for at in outside
        ]


def test_keeping_the_vocabulary_leaves_ids_as_they_are_and_room_for_new_text() -> None:
    made = prompts(keep_vocabulary=True)
    assert made.kept_ids is None
    assert all(instruction.graph_ids == instruction.token_ids for instruction in made.instructions)
    assert made.prompt.length >= max(len(instruction.token_ids) for instruction in made.instructions) + 32
    assert json.loads(made.tokenizer_json or "")["model"]


def test_the_prompt_is_as_long_as_its_longest_instruction_needs() -> None:
    made = prompts()
    longest = max(len(instruction.token_ids) for instruction in made.instructions)
    assert made.prompt.length % 16 == 0
    assert longest <= made.prompt.length < longest + 16
    with pytest.raises(InputError, match=rf"--prompt-length 12 is too short.*takes {longest} tokens"):
        prompts(length=12)


def test_explicit_ids_need_no_tokenizer() -> None:
    chosen = resolve_settings(ARCH, options={"instructions": ["go"]}).values
    ids = (0, 5, *[4] * ARCH.image_tokens, 6, 9, 11)
    made = prompts(settings=chosen, tokenizer=None, explicit_ids={"go": ids})
    assert made.instructions[0].token_ids == ids
    with pytest.raises(InputError, match="has no explicit ids and there is no tokenizer"):
        prompts(tokenizer=None)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ((0, 1), "2 before the image"),
        ((0, 5, *[4] * ARCH.image_tokens, 10**6), "has id 1000000, the checkpoint's embedding"),
    ],
)
def test_ids_that_cannot_be_a_prompt_are_refused(ids, words: str) -> None:
    chosen = resolve_settings(ARCH, options={"instructions": ["go"]}).values
    with pytest.raises(InputError, match=words):
        prompts(settings=chosen, explicit_ids={"go": ids})


def test_a_tokenizer_of_another_kind_is_refused() -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    other = Tokenizer(WordLevel({"<s>": 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(InputError, match="does not write Kosmos-2's"):
        prompts(tokenizer=other)


@pytest.mark.parametrize(
    ("text", "ids"), [("go=1,2", {"go": (1, 2)}), ("a = b=3", {"a = b": (3,)}), (" x =0, 5", {"x": (0, 5)})]
)
def test_explicit_ids_are_read(text: str, ids) -> None:
    assert parse_explicit_ids([text]) == ids


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_reading_explicit_ids_gives_ids_or_an_input_error(text: str) -> None:
    try:
        found = parse_explicit_ids([text])
    except InputError:
        return
    for key, ids in found.items():
        assert key
        assert min(ids) >= 0


@given(st.text(min_size=1, max_size=30).filter(lambda text: text.strip()))
@settings(max_examples=60, deadline=None)
def test_any_instruction_becomes_a_prompt_or_an_input_error(text: str) -> None:
    try:
        chosen = resolve_settings(ARCH, options={"instructions": [text]}).values
        made = prompts(settings=chosen)
    except InputError:
        return
    assert len(made.instructions[0].graph_ids) <= made.prompt.length


def test_a_tokenizer_is_found_beside_the_checkpoint(tmp_path: Path) -> None:
    assert find_tokenizer(tmp_path / "a.pth") == "microsoft/kosmos-2-patch14-224"
    write_tokenizer(tmp_path / "tokenizer")
    assert find_tokenizer(tmp_path / "a.pth") == str(tmp_path / "tokenizer")
    assert load_tokenizer(str(tmp_path / "tokenizer")).token_to_id("<s>") == 0


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("no.json", None, "there is no tokenizer at"), ("bad.json", "{", "is not a tokenizer")],
)
def test_a_tokenizer_that_cannot_be_read_is_refused(
    tmp_path: Path, name: str, content: str | None, words: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=words):
        load_tokenizer(str(path))
