"""Reading `tokenizer.json`: a file from outside for a library that trusts its files.

The package tokenizers aborts, hangs or takes gigabytes on files of a few KiB, and obeys what was stored in
one by a former call, such as truncation. So the file is decoded here into the types below, which are what
Kosmos-2's own tokenizer and its relatives are made of, and only what they hold is written out again for
the library. What does not belong to turning a text into ids (truncation, padding, templates of special
tokens, the way back to text) is read past: it is not used, and so cannot change a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from .charsmap import longest_replacement

MAX_TOKENIZER_BYTES = 32 << 20
MAX_VOCABULARY = 1 << 18  # XLM-R, the largest relative, has 250,002
# The library's tries take some 300 bytes for each byte of these.
MAX_VOCABULARY_BYTES = 3 << 20
MAX_ADDED_BYTES = 256 << 10  # 1,035 tags and patch indices take 19 KiB
MAX_TEXT_CHARACTERS = 100_000  # of a prompt; the image's place holders take 8 each
MAX_GROWTH = 64  # how many times longer a normaliser may make a text
# Regular expressions run in an engine that backtracks: only those that conversions from sentencepiece write.
_PATTERNS = {" {2,}": 2, "\\s+": 1, "\\s{2,}": 2, "[\\n\\r\\t]": 1}

_Piece = Annotated[str, Meta(min_length=1, max_length=200)]
_Short = Annotated[str, Meta(max_length=16)]
_Id = Annotated[int, Meta(ge=0, lt=1 << 20)]
_Score = Annotated[float, Meta(ge=-1e6, le=1e6)]


class TokenizerError(ValueError):
    """The file is no tokenizer that can be used; a clause that says why."""


class _Part(Struct, frozen=True, tag_field="type", forbid_unknown_fields=True, omit_defaults=True):
    pass


class _Nfc(_Part, frozen=True, tag="NFC"):
    pass


class _Nfd(_Part, frozen=True, tag="NFD"):
    pass


class _Nfkc(_Part, frozen=True, tag="NFKC"):
    pass


class _Nfkd(_Part, frozen=True, tag="NFKD"):
    pass


class _Nmt(_Part, frozen=True, tag="Nmt"):
    pass


class _Lowercase(_Part, frozen=True, tag="Lowercase"):
    pass


class _Strip(_Part, frozen=True, tag="Strip"):
    strip_left: bool
    strip_right: bool


class _Prepend(_Part, frozen=True, tag="Prepend"):
    prepend: _Short


class _Pattern(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    String: Annotated[str, Meta(min_length=1, max_length=16)] | UnsetType = UNSET
    Regex: str | UnsetType = UNSET


class _Replace(_Part, frozen=True, tag="Replace"):
    pattern: _Pattern
    content: _Short


class _Precompiled(_Part, frozen=True, tag="Precompiled"):
    precompiled_charsmap: Annotated[str, Meta(max_length=4 << 20)]


_Normalizer = _Nfc | _Nfd | _Nfkc | _Nfkd | _Nmt | _Lowercase | _Strip | _Prepend | _Replace | _Precompiled


class _Normalizers(_Part, frozen=True, tag="Sequence"):
    normalizers: Annotated[list[_Normalizer], Meta(max_length=8)]


class _WhitespaceSplit(_Part, frozen=True, tag="WhitespaceSplit"):
    pass


class _Whitespace(_Part, frozen=True, tag="Whitespace"):
    pass


class _Metaspace(_Part, frozen=True, tag="Metaspace"):
    replacement: Annotated[str, Meta(min_length=1, max_length=1)]
    prepend_scheme: str | UnsetType = UNSET
    split: bool | UnsetType = UNSET
    add_prefix_space: bool | UnsetType = UNSET  # of older files, as the next
    str_rep: Annotated[str, Meta(min_length=1, max_length=1)] | UnsetType = UNSET


_PreTokenizer = _WhitespaceSplit | _Whitespace | _Metaspace


class _PreTokenizers(_Part, frozen=True, tag="Sequence"):
    pretokenizers: Annotated[list[_PreTokenizer], Meta(max_length=4)]


class _Unigram(_Part, frozen=True, tag="Unigram"):
    vocab: Annotated[list[tuple[_Piece, _Score]], Meta(min_length=1, max_length=MAX_VOCABULARY)]
    unk_id: _Id | None = None
    byte_fallback: bool = False


class _WordLevel(_Part, frozen=True, tag="WordLevel"):
    vocab: Annotated[dict[_Piece, _Id], Meta(min_length=1, max_length=MAX_VOCABULARY)]
    unk_token: _Piece


class _AddedToken(Struct, frozen=True, forbid_unknown_fields=True):
    id: _Id
    content: _Piece
    single_word: bool
    lstrip: bool
    rstrip: bool
    normalized: bool
    special: bool


class _Tokenizer(Struct, frozen=True, forbid_unknown_fields=True):
    model: _Unigram | _WordLevel
    version: Annotated[str, Meta(max_length=16)] = "1.0"
    added_tokens: Annotated[list[_AddedToken], Meta(max_length=8192)] = []
    normalizer: (
        _Nfc
        | _Nfd
        | _Nfkc
        | _Nfkd
        | _Nmt
        | _Lowercase
        | _Strip
        | _Prepend
        | _Replace
        | _Precompiled
        | _Normalizers
        | None
    ) = None
    pre_tokenizer: _WhitespaceSplit | _Whitespace | _Metaspace | _PreTokenizers | None = None
    # read past
    truncation: msgspec.Raw = msgspec.Raw(b"null")
    padding: msgspec.Raw = msgspec.Raw(b"null")
    post_processor: msgspec.Raw = msgspec.Raw(b"null")
    decoder: msgspec.Raw = msgspec.Raw(b"null")


def load_tokenizer(data: bytes) -> Any:
    """A `tokenizers.Tokenizer` that turns text into ids as the file says, without anything else of it.

    Raises:
        TokenizerError: not JSON, of other kinds than those here, too large, or refused by the library.
        ImportError: the package tokenizers is missing.
    """
    decoded = _decode(data)
    _refuse_vanishing(decoded)
    return _library_tokenizer(decoded)


def checked_json(data: bytes) -> bytes:
    """The file's content again, only what `load_tokenizer` uses of it, as JSON.

    Raises:
        TokenizerError: as `load_tokenizer`.
    """
    return msgspec.json.encode(_decode(data))


def _decode(data: bytes) -> _Tokenizer:
    """The checked content, without the parts that are read past."""
    if len(data) > MAX_TOKENIZER_BYTES:
        raise TokenizerError(f"it has more than {MAX_TOKENIZER_BYTES} bytes")
    try:
        decoded = msgspec.json.decode(data, type=_Tokenizer)
        problem = next(_problems(decoded), None)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise TokenizerError(str(error)) from error
    if problem is not None:
        raise TokenizerError(problem)
    unused = msgspec.Raw(b"null")
    return msgspec.structs.replace(
        decoded, truncation=unused, padding=unused, post_processor=unused, decoder=unused
    )


def _library_tokenizer(decoded: _Tokenizer) -> Any:
    from tokenizers import Tokenizer

    return _guarded(lambda: Tokenizer.from_str(msgspec.json.encode(decoded).decode("utf-8")))


def _refuse_vanishing(decoded: _Tokenizer) -> None:
    """Refuse added tokens of which the normaliser leaves nothing: the library finds them without end."""
    if decoded.normalizer is None:
        return
    smallest = _WordLevel(vocab={"a": 0}, unk_token="a")  # noqa: S106
    alone = msgspec.structs.replace(decoded, model=smallest, added_tokens=[], pre_tokenizer=None)
    normalizer = _library_tokenizer(alone).normalizer
    for token in decoded.added_tokens:
        if token.normalized and not _guarded(partial(normalizer.normalize_str, token.content)):
            raise TokenizerError(f"its normalizer leaves nothing of the added token {token.content!r}")


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """A text's ids, nothing added, cut off or padded.

    Raises:
        TokenizerError: it is too long, no text that can be encoded, or the library fails on it.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise TokenizerError(f"the text has {len(text)} characters, at most {MAX_TEXT_CHARACTERS} are taken")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise TokenizerError("the text holds half a character (a surrogate)")

    def encode() -> list[int]:
        tokenizer.no_truncation()  # whoever made the tokenizer, and whatever it was told
        tokenizer.no_padding()
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    return _guarded(encode)


def _guarded(call: Callable[[], Any]) -> Any:
    """Call into the library: it raises plain Exception, and Rust's panics, which are none."""
    try:
        return call()
    except TokenizerError:
        raise
    except Exception as error:
        raise TokenizerError(str(error) or type(error).__name__) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise TokenizerError(f"the package tokenizers failed on it ({error})") from error


def _problems(tokenizer: _Tokenizer) -> Iterator[str]:
    model = tokenizer.model
    pieces = (piece for piece, _ in model.vocab) if isinstance(model, _Unigram) else iter(model.vocab)
    for name, texts, limit in (
        ("vocabulary", pieces, MAX_VOCABULARY_BYTES),
        ("added tokens", (token.content for token in tokenizer.added_tokens), MAX_ADDED_BYTES),
    ):
        size_bytes = sum(len(text.encode()) for text in texts)
        if size_bytes > limit:
            yield f"the texts of its {name} take {size_bytes} bytes, at most {limit} are taken"
    if isinstance(model, _Unigram) and (model.unk_id or 0) >= len(model.vocab):
        yield f"its unk_id {model.unk_id} is beyond the {len(model.vocab)} pieces"
    if isinstance(model, _WordLevel) and model.unk_token not in model.vocab:
        yield f"its unk_token {model.unk_token!r} is not in the vocabulary"
    scheme = {part.prepend_scheme for part in _pre_tokenizers(tokenizer) if isinstance(part, _Metaspace)}
    if unknown := scheme - {"always", "first", "never", UNSET}:
        yield f"its Metaspace has the prepend_scheme {unknown.pop()!r}"
    growth = 1.0
    for part in _normalizers(tokenizer):
        yield from _pattern_problems(part)
        growth *= _growth(part)
    if growth > MAX_GROWTH:
        yield f"its normalizer makes a text {growth:.0f} times as long, at most {MAX_GROWTH} are taken"


def _pattern_problems(part: _Normalizer) -> Iterator[str]:
    if not isinstance(part, _Replace):
        return
    pattern = part.pattern
    if (pattern.String is UNSET) == (pattern.Regex is UNSET):
        yield "a pattern to replace is neither a String nor a Regex"
    elif pattern.Regex is not UNSET and pattern.Regex not in _PATTERNS:
        yield f"it replaces the Regex {pattern.Regex!r}; known are {', '.join(map(repr, _PATTERNS))}"


def _growth(part: _Normalizer) -> float:
    """How many times longer this step can make a text, in bytes."""
    if isinstance(part, _Replace):
        pattern = part.pattern
        least = (
            len(pattern.String.encode())
            if pattern.String is not UNSET
            else _PATTERNS.get(str(pattern.Regex), 1)
        )
        return max(1.0, len(part.content.encode()) / least)
    if isinstance(part, _Precompiled):
        return max(1.0, float(longest_replacement(part.precompiled_charsmap)))
    return 1.0


def _normalizers(tokenizer: _Tokenizer) -> list[_Normalizer]:
    part = tokenizer.normalizer
    if isinstance(part, _Normalizers):
        return part.normalizers
    return [] if part is None else [part]


def _pre_tokenizers(tokenizer: _Tokenizer) -> list[_PreTokenizer]:
    part = tokenizer.pre_tokenizer
    if isinstance(part, _PreTokenizers):
        return part.pretokenizers
    return [] if part is None else [part]
