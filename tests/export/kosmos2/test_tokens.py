"""Prompts: Kosmos-2's form, reduced embeddings, and what is refused."""

from __future__ import annotations

import json
import socket
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from vla_edge.export.kosmos2.reference import clip_instruction_ids
from vla_edge.export.kosmos2.sample.sizes import sample_architecture
from vla_edge.export.kosmos2.sample.tokenizer import build_tokenizer, write_tokenizer
from vla_edge.export.kosmos2.settings import PolicySettings
from vla_edge.export.kosmos2.settings_rules import RULES
from vla_edge.export.kosmos2.tokens import (
    build_prompts,
    find_tokenizer,
    load_tokenizer,
    needs_tokenizer,
    refuse_unusable_texts,
)
from vla_edge.export.settings.instruction_ids import parse_explicit_ids
from vla_edge.runtime.errors import InputError

ARCH = sample_architecture("pure", "none", "tiny")
SETTINGS = RULES.resolve(ARCH).values
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
    chosen = RULES.resolve(ARCH, options={"instructions": ["go"]}).values
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
    chosen = RULES.resolve(ARCH, options={"instructions": ["go"]}).values
    with pytest.raises(InputError, match=words):
        prompts(settings=chosen, explicit_ids={"go": ids})


def test_a_tokenizer_of_another_kind_is_refused() -> None:
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
        chosen = RULES.resolve(ARCH, options={"instructions": [text]}).values
        made = prompts(settings=chosen)
    except InputError:
        return
    assert len(made.instructions[0].graph_ids) <= made.prompt.length


def test_a_tokenizer_is_found_beside_the_checkpoint(tmp_path: Path) -> None:
    assert find_tokenizer(tmp_path / "a.pth") == "microsoft/kosmos-2-patch14-224"
    write_tokenizer(tmp_path / "tokenizer")
    assert find_tokenizer(tmp_path / "a.pth") == str(tmp_path / "tokenizer")
    assert load_tokenizer(str(tmp_path / "tokenizer")).token_to_id("<s>") == 0


def rewritten(path: Path, change: Callable[[Tokenizer], object]) -> str:
    """The sample tokenizer after a call that leaves something in its file."""
    tokenizer = build_tokenizer()
    change(tokenizer)
    tokenizer.save(str(path))
    return str(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda tokenizer: tokenizer.enable_truncation(12),
        lambda tokenizer: tokenizer.enable_truncation(20, stride=2, direction="left"),
        lambda tokenizer: tokenizer.enable_padding(length=64),
        lambda tokenizer: tokenizer.enable_padding(direction="left", pad_to_multiple_of=64),
        lambda tokenizer: setattr(tokenizer, "decoder", None),
    ],
)
@pytest.mark.parametrize("loaded", [True, False])
def test_what_a_tokenizer_was_told_before_it_was_saved_changes_no_prompt(
    tmp_path: Path, change: Callable[[Tokenizer], object], loaded: bool
) -> None:
    path = rewritten(tmp_path / "tokenizer.json", change)
    if loaded:
        found = prompts(tokenizer=load_tokenizer(path), keep_vocabulary=True)
    else:  # by somebody else's code, which hands it over as it is
        found = prompts(tokenizer=Tokenizer.from_file(path), keep_vocabulary=True)
    assert found.instructions == prompts(keep_vocabulary=True).instructions
    kept = json.loads(found.tokenizer_json or "")
    assert kept["truncation"] is kept["padding"] is kept["post_processor"] is None


def test_a_template_that_doubles_the_text_is_read_past(tmp_path: Path) -> None:
    doubling = processors.TemplateProcessing(single="$A $A", pair="$A $B")
    path = rewritten(tmp_path / "a.json", lambda tokenizer: setattr(tokenizer, "post_processor", doubling))
    assert prompts(tokenizer=load_tokenizer(path)).instructions == prompts().instructions


def instructed(*texts: str, **options: Any) -> PolicySettings:
    return RULES.resolve(ARCH, options={"instructions": list(texts), **options}).values


@pytest.mark.parametrize(
    "texts",
    [
        ("컵까지 가세요", "컵까지 가세요 "),
        ("컵까지 가세요", unicodedata.normalize("NFD", "컵까지 가세요")),
        ("go", "stop", " go  "),
        ("go", "\u3000go"),
    ],
)
def test_instructions_that_the_runtime_would_take_for_one_are_refused_with_both(
    texts: tuple[str, ...],
) -> None:
    with pytest.raises(InputError, match="are the same text once trimmed and composed") as caught:
        prompts(settings=instructed(*texts))
    assert repr(texts[0]) in caught.value.problem
    assert repr(texts[-1]) in caught.value.problem


def test_an_instruction_that_a_bundle_cannot_hold_is_refused() -> None:
    with pytest.raises(InputError, match="has 201 characters; it needs 1 to 200"):
        refuse_unusable_texts(["go " * 67])
    with pytest.raises(InputError, match="is no Unicode text") as caught:
        refuse_unusable_texts(["go \udcff"])
    assert "UTF-8" in caught.value.hint


def test_instructions_of_the_same_ids_are_refused_where_the_text_decides() -> None:
    words = {
        word: at for at, word in enumerate(("<s>", "<pad>", "</s>", "<unk>", "<image>", "</image>", "go"))
    }
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.add_tokens(["<s>", "<image>", "</image>"])
    tokenizer.pre_tokenizer = WhitespaceSplit()
    assert len(prompts(tokenizer=tokenizer, settings=instructed("go left", "go")).instructions) == 2
    with pytest.raises(InputError, match="'go left' and 'go right' have the same token ids"):
        prompts(tokenizer=tokenizer, settings=instructed("go left", "go", "go right"))
    ids = (0, 5, *[4] * ARCH.image_tokens, 6, 9)
    held = (0, 5, *[7] * ARCH.image_tokens, 6, 9)  # differs in place holders only
    with pytest.raises(InputError, match="'left' and 'right' have the same token ids"):
        prompts(settings=instructed("left", "right"), explicit_ids={"left": ids, "right": held})


def test_explicit_ids_are_found_by_the_text_as_the_runtime_compares_it() -> None:
    ids = (0, 5, *[4] * ARCH.image_tokens, 6, 9)
    assert not needs_tokenizer(["go "], {"go": ids})
    assert needs_tokenizer(["go", "stop"], {"go": ids})
    made = prompts(settings=instructed("go "), tokenizer=None, explicit_ids={"go": ids})
    assert made.instructions[0].token_ids == ids
    with pytest.raises(InputError, match="gives 'go' twice"):
        parse_explicit_ids(["go=1,2", " go =1,3"])


def test_a_prompt_that_no_manifest_takes_is_refused() -> None:
    with pytest.raises(InputError, match="--prompt-length 100000 is too long"):
        prompts(length=100_000)


def test_a_tokenizer_in_a_cache_of_links_is_read(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "blobs")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "tokenizer.json").symlink_to("../blobs/tokenizer.json")
    assert load_tokenizer(str(tmp_path / "snapshot")).token_to_id("<s>") == 0


@pytest.mark.parametrize(
    "source", ["nobody/nothing", "microsoft/kosmos-2-patch14-224", "no such id", "a/b/c/d"]
)
def test_without_a_network_a_hub_id_is_refused_at_once_with_the_way_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str
) -> None:
    asked = []

    def refuse(*where: Any, **_: Any) -> None:
        asked.append(where)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits to try again"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=f"the tokenizer '{source}' cannot be fetched: ") as caught:
        load_tokenizer(source)
    assert "hf download" in caught.value.hint
    assert "--tokenizer" in caught.value.hint
    assert "--instruction-ids" in caught.value.hint
    assert len(asked) <= 2


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("no.json", None, "there is no tokenizer at"),
        ("bad.json", "{", "is not a tokenizer"),
        ("bert.json", '{"model": {"type": "WordPiece"}}', "Invalid value 'WordPiece'"),
    ],
)
def test_a_tokenizer_that_cannot_be_read_is_refused(
    tmp_path: Path, name: str, content: str | None, words: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=words):
        load_tokenizer(str(path))


@pytest.mark.parametrize("text", ["go <image>", "<s> go", "<grounding> go to the cup", "go\uff1c/s\uff1e"])
@pytest.mark.parametrize("keep_vocabulary", [True, False])
def test_special_tokens_in_a_declared_instruction_are_refused(text: str, keep_vocabulary: bool) -> None:
    with pytest.raises(InputError, match=f"instruction '{text}' holds the special token '<") as caught:
        prompts(settings=instructed("go", text), keep_vocabulary=keep_vocabulary)
    assert "--instruction-ids" in caught.value.hint


def test_a_template_with_special_tokens_and_explicit_ids_of_them_are_allowed() -> None:
    assert prompts(settings=instructed("go", prompt="image_first_grounding")).instructions
    image, end = (TOKENIZER.token_to_id(token) for token in ("<image>", "</image>"))
    ids = (0, image, *[image] * ARCH.image_tokens, end, image)
    made = prompts(settings=instructed("go <image>"), explicit_ids={"go <image>": ids})
    assert made.instructions[0].token_ids == ids


@pytest.mark.parametrize("text", ["go <end_of_text>", "<Start_Of_Text> go", "go &lt;end_of_text&gt; left"])
def test_special_tokens_of_clip_in_a_declared_instruction_are_refused(text: str) -> None:
    assert clip_instruction_ids(instructed("go", "go left")).shape == (2, 77)
    with pytest.raises(InputError, match=r"instruction '.*' holds a special token of CLIP's"):
        clip_instruction_ids(instructed("go", text))
