"""From instructions to token ids, in the form that Kosmos2Processor writes.

`<s><image> <image>...<image> </image> text`: the repeated `<image>` are place holders, one for each image
token. Their embeddings are replaced by the image, so their ids never matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vla_edge.export.family import PromptRequest, Prompts
from vla_edge.export.hub import hub_tokenizer
from vla_edge.runtime.bundle.manifest import Instruction, Prompt
from vla_edge.runtime.bundle.manifest_checks import normal_text
from vla_edge.runtime.bundle.tokenizer import file as tokenizer_file
from vla_edge.runtime.bundle.tokenizer.special_tokens import SpecialTokens
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.files.regular_file import read_regular

from .architecture import Architecture
from .settings import PolicySettings

DEFAULT_TOKENIZER = "microsoft/kosmos-2-patch14-224"
PAD_ID = 1
LENGTH_STEP = 16  # prompts are padded to a multiple, which suits matrix tiles
MAX_LENGTH = 1 << 16  # tokens of a prompt that a manifest takes
MAX_CHARACTERS = 200  # of a declared instruction, as the manifest has it
ROOM_FOR_NEW_TEXT = 32  # tokens left for instructions that are tokenised on the robot
TEMPLATES = {
    "image_first": "<s><image> {image_tokens} </image> {instruction}",
    "image_first_grounding": "<s><image> {image_tokens} </image> <grounding> {instruction}",
}
SAMPLE_TOKENIZER = (
    "the tokenizer is that of vla-sample, not the one that this checkpoint was trained with: instructions would become "
    "other ids, which no gate sees, and the robot would drive wrongly."
)
HINT = (
    "Give a Kosmos-2 tokenizer with --tokenizer (a folder with tokenizer.json, or a hub id), "
    "or explicit ids with --instruction-ids 'TEXT=0,64003,...'."
)


def prompts_of(arch: Architecture, settings: PolicySettings, request: PromptRequest) -> Prompts:
    """What an export was asked for, with the tokenizer that it needs. Raises as `build_prompts`."""
    tokenizer = _tokenizer(request, settings.instructions)
    prompts = build_prompts(
        arch,
        settings,
        tokenizer=tokenizer,
        explicit_ids=request.explicit_ids,
        keep_vocabulary=request.keep_vocabulary,
        length=request.length,
    )
    return replace(prompts, doubt=SAMPLE_TOKENIZER) if _is_of_samples(tokenizer) else prompts


def _is_of_samples(tokenizer: Any | None) -> bool:
    from .sample.tokenizer import build_tokenizer

    return tokenizer is not None and tokenizer.get_vocab() == build_tokenizer().get_vocab()


def _tokenizer(request: PromptRequest, instructions: Sequence[str]) -> Any | None:
    """The tokenizer, unless explicit ids make it needless."""
    if (
        request.tokenizer is None
        and not needs_tokenizer(instructions, request.explicit_ids)
        and not request.keep_vocabulary
    ):
        return None
    return load_tokenizer(request.tokenizer or find_tokenizer(request.checkpoint))


def find_tokenizer(checkpoint: Path) -> str:
    """`tokenizer/` or `tokenizer.json` beside the checkpoint, else the published one's hub id."""
    for candidate in (checkpoint.parent / "tokenizer", checkpoint.parent / "tokenizer.json"):
        if candidate.exists():
            return str(candidate)
    return DEFAULT_TOKENIZER


def load_tokenizer(source: str) -> Any:
    """A `tokenizers.Tokenizer` from a folder, a tokenizer.json, or a hub id.

    It turns text into ids and nothing else: whatever truncation, padding or template the file was saved with
    is left behind (`runtime.bundle.tokenizer.file`).

    Raises:
        InputError: not found, not readable, or of another kind.
    """
    path = Path(source)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        if path.is_dir() or path.suffix == ".json" or source.startswith((".", "/")):
            raise InputError(f"there is no tokenizer at {source}.", HINT)
        file = hub_tokenizer(source)
    try:
        # links are followed: a hub's cache is made of them
        return tokenizer_file.load_tokenizer(read_regular(file.resolve(), tokenizer_file.MAX_TOKENIZER_BYTES))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.", HINT) from error
    except tokenizer_file.TokenizerError as error:
        raise InputError(f"{file} is not a tokenizer: {error}.", HINT) from error


def needs_tokenizer(instructions: Sequence[str], explicit_ids: Mapping[str, Sequence[int]]) -> bool:
    """Whether an instruction has no explicit ids; texts are compared as the runtime compares them."""
    return not set(map(normal_text, instructions)) <= set(map(normal_text, explicit_ids))


def build_prompts(
    arch: Architecture,
    settings: PolicySettings,
    *,
    tokenizer: Any | None,
    explicit_ids: Mapping[str, Sequence[int]],
    keep_vocabulary: bool,
    length: int | None,
) -> Prompts:
    """Tokenise the declared instructions and lay out the prompt.

    Args:
        arch: for the number of image tokens and embedding rows.
        settings: instructions, template, place of the image.
        tokenizer: from `load_tokenizer`; may be None when every instruction has explicit ids.
        explicit_ids: full sequences as Kosmos2Processor gives them, by instruction.
        keep_vocabulary: keep every embedding row, so that new instructions can be tokenised later.
        length: tokens in the padded prompt; by default what the longest instruction needs.

    Raises:
        InputError: an id beyond the embedding, a prompt that is too short, a tokenizer of another kind,
            instructions that hold special tokens, or that the runtime or the policy could not tell apart.
    """
    if keep_vocabulary and tokenizer is None:
        raise InputError("--keep-vocabulary needs a tokenizer for the instructions to come.", HINT)
    refuse_unusable_texts(settings.instructions)
    given = {normal_text(text): list(ids) for text, ids in explicit_ids.items()}
    sequences = {
        text: given.get(normal_text(text)) or encode(tokenizer, text, arch, settings)
        for text in settings.instructions
    }
    _refuse_special(
        tokenizer,
        {text: ids for text, ids in sequences.items() if normal_text(text) not in given},
        arch,
        settings,
    )
    for text, ids in sequences.items():
        _check_ids(text, ids, arch, settings)
    if "text" in settings.features:
        _refuse_equal_ids(sequences, settings.image_start, settings.image_start + arch.image_tokens)
    chosen = _length(sequences, keep_vocabulary, length)
    start, stop = settings.image_start, settings.image_start + arch.image_tokens
    used = {PAD_ID} | {id_ for ids in sequences.values() for id_ in (*ids[:start], *ids[stop:])}
    kept = None if keep_vocabulary else tuple(sorted(used))
    row_of = {id_: row for row, id_ in enumerate(kept)} if kept is not None else None
    pad_row = row_of[PAD_ID] if row_of else PAD_ID

    def graph_ids(ids: Sequence[int]) -> tuple[int, ...]:
        if row_of is None:
            return tuple(ids)
        return tuple(pad_row if start <= at < stop else row_of[id_] for at, id_ in enumerate(ids))

    return Prompts(
        prompt=Prompt(
            template=TEMPLATES[settings.prompt],
            length=chosen,
            image_start=start,
            image_tokens=arch.image_tokens,
            pad_id=pad_row,
            vocabulary="full" if kept is None else "declared",
            vocabulary_rows=arch.text.vocabulary if kept is None else len(kept),
        ),
        instructions=tuple(
            Instruction(text=text, token_ids=tuple(ids), graph_ids=graph_ids(ids))
            for text, ids in sequences.items()
        ),
        default_instruction=settings.default_instruction,
        kept_ids=kept,
        tokenizer_json=_tokenizer_json(tokenizer) if tokenizer and keep_vocabulary else None,
    )


def encode(tokenizer: Any, text: str, arch: Architecture, settings: PolicySettings) -> list[int]:
    """The full sequence of an instruction, image place holders included."""
    if tokenizer is None:
        raise InputError(f"instruction {text!r} has no explicit ids and there is no tokenizer.", HINT)
    slots = " ".join(["<image>"] * arch.image_tokens)
    filled = TEMPLATES[settings.prompt].format(image_tokens=slots, instruction=normal_text(text))
    try:
        ids = tokenizer_file.text_ids(tokenizer, filled)
    except tokenizer_file.TokenizerError as error:
        raise InputError(f"instruction {text!r} cannot be tokenised: {error}.", HINT) from error
    begin, image, end = (tokenizer.token_to_id(token) for token in ("<s>", "<image>", "</image>"))
    start, stop = settings.image_start, settings.image_start + arch.image_tokens
    if (
        None in (begin, image, end)
        or len(ids) <= stop
        or ids[:2] != [begin, image]
        or set(ids[start:stop]) != {image}
        or ids[stop] != end
    ):
        raise InputError("the tokenizer does not write Kosmos-2's <s> <image> ... </image> form.", HINT)
    return ids


def refuse_unusable_texts(instructions: Sequence[str]) -> None:
    """Refuse instructions that a bundle cannot hold, or that its runtime would take for one another.

    Raises:
        InputError: an empty or long one, one that is no Unicode text, or two that are equal once they are
            composed (NFC) and trimmed; names them.
    """
    known: dict[str, str] = {}
    for text in instructions:
        key = normal_text(text)
        if not key or len(text) > MAX_CHARACTERS:
            raise InputError(
                f"instruction {text!r} has {len(text)} characters; it needs 1 to {MAX_CHARACTERS}.",
                "Word it otherwise.",
            )
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise InputError(
                f"instruction {text!r} is no Unicode text.",
                "Check the terminal's or the file's encoding: UTF-8.",
            )
        if key in known:
            raise InputError(
                f"instructions {known[key]!r} and {text!r} are the same text once trimmed and composed (NFC).",
                "Give one of them.",
            )
        known[key] = text


def _refuse_special(
    tokenizer: Any, tokenised: Mapping[str, Sequence[int]], arch: Architecture, settings: PolicySettings
) -> None:
    """Refuse `<image>` and its like in a text; whoever gives explicit ids has chosen each of them himself."""
    if not tokenised:
        return
    special = SpecialTokens(tokenizer)
    bare_ids = encode(tokenizer, "", arch, settings)
    for text, ids in tokenised.items():
        held = special.held(normal_text(text), ids, bare_ids)
        if held is not None:
            raise InputError(
                f"instruction {text!r} holds the special token {held!r}.",
                "Leave it out; if the policy was trained with it, give --instruction-ids (for <grounding> at the "
                "start, --set prompt=image_first_grounding).",
            )


def _refuse_equal_ids(sequences: Mapping[str, Sequence[int]], start: int, stop: int) -> None:
    """Two instructions of the same ids get the same action: left would be right.

    What stands between `start` and `stop` are place holders of the image.
    """
    known: dict[tuple[int, ...], str] = {}
    for text, ids in sequences.items():
        key = (*ids[:start], *ids[stop:])
        if key in known:
            raise InputError(
                f"instructions {known[key]!r} and {text!r} have the same token ids, so the policy could not tell "
                "them apart.",
                "This tokenizer lacks their words: give another with --tokenizer, or declare one of them only.",
            )
        known[key] = text


def _tokenizer_json(tokenizer: Any) -> str:
    try:
        return tokenizer_file.checked_json(tokenizer.to_str().encode("utf-8")).decode("utf-8")
    except tokenizer_file.TokenizerError as error:
        raise InputError(f"the tokenizer cannot be kept in a bundle: {error}.", HINT) from error


def _check_ids(text: str, ids: Sequence[int], arch: Architecture, settings: PolicySettings) -> None:
    least = settings.image_start + arch.image_tokens
    if len(ids) < least:
        raise InputError(
            f"instruction {text!r} has {len(ids)} ids; {settings.image_start} before the image "
            f"and {arch.image_tokens} image place holders are {least} already.",
            "Give the whole sequence, as Kosmos2Processor returns it.",
        )
    if max(ids) >= arch.text.vocabulary:
        raise InputError(
            f"instruction {text!r} has id {max(ids)}, the checkpoint's embedding {arch.text.vocabulary} rows.",
            "This tokenizer is not the one that the policy was trained with; give another with --tokenizer.",
        )


def _length(sequences: Mapping[str, Sequence[int]], keep_vocabulary: bool, length: int | None) -> int:
    longest = max(sequences, key=lambda text: len(sequences[text]))
    needed = len(sequences[longest])
    if length is None:
        room = ROOM_FOR_NEW_TEXT if keep_vocabulary else 0
        return -(-(needed + room) // LENGTH_STEP) * LENGTH_STEP
    if length > MAX_LENGTH:
        raise InputError(f"--prompt-length {length} is too long.", f"Give at most {MAX_LENGTH}.")
    if length < needed:
        raise InputError(
            f"--prompt-length {length} is too short: {longest!r} takes {needed} tokens.",
            f"Give at least {needed}.",
        )
    return length
