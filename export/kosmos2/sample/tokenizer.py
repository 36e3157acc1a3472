"""A small tokenizer in Kosmos-2's form, so that samples work without fetching the published one.

Same conventions as `microsoft/kosmos-2-patch14-224`: fairseq's special tokens 0 to 3, a Unigram model
with a metaspace, then the tags of transformers' `Kosmos2Processor` in its order (`</doc>`, `<image>`, ...,
`<grounding>`) and 1024 patch indices as added tokens. What differs is the vocabulary: a few sentences
and every byte, so that any text can be tokenised. It is written out by rule, not trained, and so is the
same everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vla_edge.runtime.errors import InputError
from vla_edge.runtime.files.atomic import write_atomically

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
TAG_TOKENS = (
    "</doc>",
    "<image>",
    "</image>",
    "</chunk>",
    "</line>",
    "<phrase>",
    "</phrase>",
    "<object>",
    "</object>",
    "</delimiter_of_multi_objects/>",
    "<grounding>",
)
PATCH_INDEX_TOKENS = 1024
FILE_NAME = "tokenizer.json"

# Instructions that the policies were trained with, and English ones of the same kind.
_SENTENCES = (
    "가장 왼쪽 외곽으로 돌아 컵까지 가세요",
    "가장 오른쪽 외곽으로 돌아 컵까지 가세요",
    "컵까지 가세요",
    "Navigate around the box along the outer left side and stop at the cup.",
    "Navigate around the box along the outer right side and stop at the cup.",
    "Go straight to the cup, then stop. An image of a robot in a room.",
)
_SPACE = "▁"  # sentencepiece's mark of a space
# Log-probabilities in this order make the longest known piece win, and bytes the last resort.
_WORD_SCORE, _PIECE_SCORE, _LETTER_SCORE, _BYTE_SCORE = -4.0, -6.0, -9.0, -20.0


def build_tokenizer() -> Tokenizer:
    """The sample tokenizer, about 1,500 tokens; text is not wrapped in `<s>` and `</s>` by itself."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(
        models.Unigram(_vocabulary(), unk_id=SPECIAL_TOKENS.index("<unk>"), byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.Metaspace(replacement=_SPACE, prepend_scheme="always"),
            decoders.Fuse(),
        ]
    )
    ends = [(token, SPECIAL_TOKENS.index(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    patches = [f"<patch_index_{index:04}>" for index in range(PATCH_INDEX_TOKENS)]
    tokenizer.add_tokens(
        [AddedToken(token, lstrip=True, normalized=False) for token in (*TAG_TOKENS, *patches)]
    )
    return tokenizer


def write_tokenizer(folder: Path, replace: bool = True) -> Path:
    """Write `tokenizer.json` into a folder, which is created.

    Args:
        folder: where.
        replace: another tokenizer that is there.

    Returns:
        The file; `tokenizers.Tokenizer.from_file` and transformers read it.

    Raises:
        InputError: another is there, and is not to be replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    try:
        write_atomically(path, lambda file: file.write(_file_bytes()), replace)
    except FileExistsError as error:
        refuse_another_tokenizer(folder, error)
    return path


def refuse_another_tokenizer(folder: Path, cause: OSError | None = None) -> None:
    """Raise InputError where `write_tokenizer` would replace a `tokenizer.json` of other content."""
    if holds_another_tokenizer(folder):
        raise InputError(
            f"{folder / FILE_NAME} exists and is not the sample's tokenizer.",
            "Give another -o, --no-tokenizer to write none, or --force to replace it.",
        ) from cause


def holds_another_tokenizer(folder: Path) -> bool:
    """Whether `write_tokenizer` would replace a `tokenizer.json` of other content."""
    path = folder / FILE_NAME
    return path.exists() and path.read_bytes() != _file_bytes()


def _file_bytes() -> bytes:
    return build_tokenizer().to_str(pretty=True).encode()


def _vocabulary() -> list[tuple[str, float]]:
    """Special tokens, 256 bytes, letters, parts of words, words: a list without repetition."""
    words = list(dict.fromkeys(_SPACE + word for sentence in _SENTENCES for word in sentence.split()))
    letters = dict.fromkeys(letter for word in words for letter in word)
    ascii_letters = (chr(code) for code in range(33, 127))
    pieces: dict[str, float] = dict.fromkeys(SPECIAL_TOKENS, 0.0)
    pieces |= {f"<0x{byte:02X}>": _BYTE_SCORE for byte in range(256)}
    for letter in (*letters, *ascii_letters):
        pieces.setdefault(letter, _LETTER_SCORE)
    for word in words:
        for length in range(2, len(word)):
            pieces.setdefault(word[:length], _PIECE_SCORE)
    for word in words:
        pieces[word] = _WORD_SCORE
    return list(pieces.items())
