"""Instructions are the declared ones, or tokenised as the export would have; never a guess."""

from __future__ import annotations

import difflib
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_edge.runtime.bundle.bundle import Bundle, Verification
from vla_edge.runtime.errors import BundleError, InstructionError
from vla_edge.runtime.instructions import InstructionEncoder, instructions_of

Make = Callable[..., Path]
DEFAULT = "컵까지 가세요"
LEFT = "가장 왼쪽 외곽으로 돌아 컵까지 가세요"
PREFIX = [0, 2, 2, 2, 2, 2, 3]


def encoder_of(folder: Path, verify: Verification = "full") -> InstructionEncoder:
    encoder = instructions_of(Bundle.open(folder, verify))
    assert isinstance(encoder, InstructionEncoder)
    return encoder


def refusal(encoder: InstructionEncoder, text: Any) -> InstructionError:
    with pytest.raises(InstructionError) as raised:
        encoder.encode(text)
    return raised.value


@pytest.fixture
def declared(pristine_bundle: Path) -> InstructionEncoder:
    return encoder_of(pristine_bundle)


@pytest.fixture
def full(make_bundle: Make) -> InstructionEncoder:
    return encoder_of(make_bundle(vocabulary="full"))


def test_a_declared_instruction_is_padded_on_the_right(declared: InstructionEncoder) -> None:
    encoded = declared.encode("go to the cup")
    assert encoded.fed["token_ids"].dtype == encoded.fed["attention_mask"].dtype == np.int32
    assert encoded.fed["token_ids"].tolist() == [*PREFIX, 11, 12, 13, 14, *[1] * 5]
    assert encoded.fed["attention_mask"].tolist() == [1] * 11 + [0] * 5
    assert encoded.fed.get("instruction_index") == 2


def test_none_is_the_default_instruction(declared: InstructionEncoder) -> None:
    assert declared.encode(None) is declared.encode(DEFAULT)
    assert declared.encode(None).text == DEFAULT


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKD"])
def test_korean_in_any_unicode_form_is_the_same_instruction(declared: InstructionEncoder, form: Any) -> None:
    assert declared.encode(unicodedata.normalize(form, f" {LEFT}\n")).fed.get("instruction_index") == 1


def test_an_instruction_that_the_bundle_lacks_lists_those_it_has(declared: InstructionEncoder) -> None:
    error = refusal(declared, "open the door")
    assert "'tiny' does not hold the instruction 'open the door'" in error.problem
    assert f"it holds 3: '{DEFAULT}', '{LEFT}', 'go to the cup'." in error.problem
    assert "--keep-vocabulary" in error.hint
    assert error.exit_code == 2


def test_a_slip_of_the_keyboard_suggests_the_nearest(declared: InstructionEncoder) -> None:
    assert refusal(declared, "go to the cop").hint.startswith("Did you mean 'go to the cup'? ")
    assert refusal(declared, unicodedata.normalize("NFD", "컵까지 가세오")).hint.startswith(
        f"Did you mean '{DEFAULT}'? "
    )


def test_at_most_ten_instructions_are_listed_with_a_count(make_bundle: Make) -> None:
    texts = tuple(f"go to door {at}" for at in range(14))
    problem = refusal(encoder_of(make_bundle(texts=texts)), "x").problem
    assert "it holds 14: " in problem
    assert "'go to door 9' and 4 more." in problem
    assert "'go to door 10'" not in problem


@pytest.mark.parametrize("letters", ["ab", "a", "abcdefgh"])
def test_the_nearest_of_a_thousand_long_instructions_is_sought_within_a_budget(
    make_bundle: Make, monkeypatch: pytest.MonkeyPatch, letters: str
) -> None:
    rng = np.random.default_rng(5)
    long = {"".join(rng.choice(list(letters), 190)) + f"{at:05}" for at in range(999)}
    encoder = encoder_of(make_bundle(texts=(DEFAULT, *sorted(long))))
    compared = []
    ratio = difflib.SequenceMatcher.ratio

    def counted(self: difflib.SequenceMatcher[str]) -> float:
        compared.append(len(self.a) * len(self.b))
        return ratio(self)

    monkeypatch.setattr(difflib.SequenceMatcher, "ratio", counted)
    for length in (1, 10, 100, 195, 2000):
        compared.clear()
        error = refusal(encoder, (letters * length)[:length])
        assert "does not hold the instruction" in error.problem
        assert sum(compared) <= 2 * 20_000  # difflib asks twice about one that is near
    assert refusal(encoder, "컵까지 가세오").hint.startswith(f"Did you mean '{DEFAULT}'? ")


@pytest.mark.parametrize(
    "slip",
    ["drive to charging sttaion 777", "drive to charging station 777!", "drove to charging station 777"],
)
def test_a_slip_is_found_among_a_thousand_instructions(make_bundle: Make, slip: str) -> None:
    texts = (DEFAULT, *(f"drive to charging station {at}" for at in range(999)))
    error = refusal(encoder_of(make_bundle(texts=texts)), slip)
    assert error.hint.startswith("Did you mean 'drive to charging station 777'? ")


@pytest.mark.parametrize("text", ["", "  ", 5, b"go"])
def test_what_is_no_instruction_is_refused(full: InstructionEncoder, text: Any) -> None:
    refusal(full, text)


def test_one_instruction_declared_in_two_unicode_forms_is_refused(make_bundle: Make) -> None:
    folder = make_bundle(texts=(DEFAULT, unicodedata.normalize("NFD", DEFAULT)))
    with pytest.raises(BundleError, match="an instruction is listed twice"):
        encoder_of(folder)


def test_a_new_instruction_is_tokenised_where_the_vocabulary_was_kept(full: InstructionEncoder) -> None:
    encoded = full.encode("go left to the door")
    assert encoded.fed["token_ids"].tolist() == [*PREFIX, 11, 16, 12, 13, 15, *[1] * 4]
    assert encoded.fed["attention_mask"].tolist() == [1] * 12 + [0] * 4
    assert encoded.fed.get("instruction_index") is None
    assert full.encode("go left to the door") is encoded


def test_declared_instructions_come_from_the_manifest_even_then(full: InstructionEncoder) -> None:
    assert full.encode(DEFAULT).fed.get("instruction_index") == 0


def test_an_instruction_that_is_too_long_tells_the_counts(full: InstructionEncoder) -> None:
    error = refusal(full, "go " * 12)
    assert "makes a prompt of 19 tokens, the graph takes 16" in error.problem
    assert "Shorten it by 3 tokens" in error.hint


@pytest.mark.parametrize("text", ["<image>", "go <image>", "go <s> left", "<pad>", "go </image> <image>"])
def test_special_tokens_in_a_new_instruction_are_refused(full: InstructionEncoder, text: str) -> None:
    error = refusal(full, text)
    assert "holds the special token '<" in error.problem
    assert error.hint == "Leave out special tokens."


@pytest.mark.parametrize("text", ["go <unk>", "go ⌘", "<imagine the door"])
def test_a_word_that_the_tokenizer_lacks_is_no_special_token(full: InstructionEncoder, text: str) -> None:
    assert full.encode(text).fed["token_ids"][7:].max() > 3


def test_a_tokenizer_that_gives_other_ids_for_the_default_is_not_trusted(
    make_bundle: Make, relist: Callable[[Path], None]
) -> None:
    folder = make_bundle(vocabulary="full")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"컵까지": 5', '"컵까지": 20'), encoding="utf-8")
    relist(folder)
    error = refusal(encoder_of(folder), "go left")
    assert "does not give the ids of the default instruction" in error.problem
    assert "cannot be trusted" in error.problem


def test_a_token_beyond_the_embedding_is_refused(make_bundle: Make, relist: Callable[[Path], None]) -> None:
    folder = make_bundle(vocabulary="full")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"door": 15', '"door": 1500'), encoding="utf-8")
    relist(folder)
    error = refusal(encoder_of(folder), "go to the door")
    assert "has a token beyond the 32 embedding rows" in error.problem


def test_a_tokenizer_that_is_none_is_a_bundle_error(
    make_bundle: Make, relist: Callable[[Path], None]
) -> None:
    folder = make_bundle(vocabulary="full")
    (folder / "tokenizer.json").write_text("{}")
    relist(folder)
    with pytest.raises(BundleError, match=r"tokenizer.json is not a tokenizer"):
        encoder_of(folder).encode("go left")


def test_a_tokenizer_that_changed_is_not_used_although_only_sizes_were_checked(make_bundle: Make) -> None:
    folder = make_bundle(vocabulary="full")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"left": 16', '"left": 15'), encoding="utf-8")
    encoder = encoder_of(folder, "size")
    assert encoder.encode(DEFAULT).fed.get("instruction_index") == 0
    with pytest.raises(BundleError, match="its SHA-256 is not the manifest's"):
        encoder.encode("go left")


@pytest.mark.parametrize("setting", ["truncation", "padding"])
def test_what_a_tokenizer_was_told_before_it_was_saved_changes_no_instruction(
    make_bundle: Make, relist: Callable[[Path], None], setting: str
) -> None:
    from tokenizers import Tokenizer

    folder = make_bundle(vocabulary="full")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if setting == "truncation":
        tokenizer.enable_truncation(9)
    else:
        tokenizer.enable_padding(length=16)
    tokenizer.save(str(folder / "tokenizer.json"))
    relist(folder)
    encoded = encoder_of(folder).encode("go left to the door")
    assert encoded.fed["token_ids"].tolist() == [*PREFIX, 11, 16, 12, 13, 15, *[1] * 4]
    assert encoded.fed["attention_mask"].tolist() == [1] * 12 + [0] * 4


@pytest.mark.parametrize(
    ("text", "words"),
    [("go \ud800", "half a character"), ("go " * 10**6, "has 3000000 characters, at most 2000")],
)
def test_texts_that_no_tokenizer_can_bear_are_refused(
    full: InstructionEncoder, declared: InstructionEncoder, text: str, words: str
) -> None:
    assert words in refusal(full, text).problem
    refusal(declared, text)


def test_a_tokenizer_that_the_manifest_does_not_list_is_not_used(
    make_bundle: Make, edit_manifest: Callable[..., None]
) -> None:
    folder = make_bundle(vocabulary="full")

    def unlist(fields: dict[str, Any]) -> None:
        fields["files"] = [entry for entry in fields["files"] if entry["path"] != "tokenizer.json"]

    edit_manifest(folder, unlist)
    assert "does not hold" in refusal(encoder_of(folder), "go left").problem


def test_new_instructions_are_refused_where_the_graph_holds_features_of_the_declared(
    make_bundle: Make,
) -> None:
    encoder = encoder_of(make_bundle(vocabulary="full", indexed=True))
    assert "does not hold the instruction 'go left'" in refusal(encoder, "go left").problem


def test_a_missing_tokenizers_package_is_named(
    full: InstructionEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert refusal(full, "go left").hint == "pip install tokenizers"


def test_declared_instructions_need_no_tokenizers_package(make_bundle: Make) -> None:
    script = (
        "import sys\nfrom vla_edge.runtime.bundle.bundle import Bundle\n"
        "from vla_edge.runtime.instructions import instructions_of\n"
        "instructions_of(Bundle.open(sys.argv[1])).encode(None)\nassert 'tokenizers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(make_bundle(vocabulary="full"))], check=True)
