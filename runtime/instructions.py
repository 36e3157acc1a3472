"""From an instruction's text to what the graph is fed."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import TOKENIZER_NAME, InputRole, Instruction, Prompt
from vla_edge.runtime.bundle.manifest_checks import normal_text
from vla_edge.runtime.bundle.tokenizer.file import (
    MAX_TOKENIZER_BYTES,
    TokenizerError,
    load_tokenizer,
    text_ids,
)
from vla_edge.runtime.bundle.tokenizer.special_tokens import SpecialTokens
from vla_edge.runtime.files.regular_file import read_regular

from .errors import BundleError, InstructionError

MAX_TEXT_CHARACTERS = 2000  # declared ones have 200 at most
_LISTED_AT_MOST = 10
# How many pairs of letters are compared to find what was meant: a robot that has stopped waits for the answer, and
# the comparison takes up to a microsecond a pair.
_HINT_PAIRS = 20_000
_ENDS = 32  # letters at either end that tell which instructions are compared first
_TEXTS_KEPT = 64  # tokenised texts remembered; a robot repeats few


@dataclass(frozen=True)
class EncodedInstruction:
    """An instruction as the graph's inputs hold it.

    Attributes:
        text: as declared, or as given; None for a policy without text.
        fed: what goes into the input of each role: "token_ids" int32 [L], padded on the right; "attention_mask"
            int32 [L], 1 for tokens; "instruction_index", among the declared ones, not there for a new one.
    """

    text: str | None
    fed: Mapping[InputRole, np.ndarray | int]


def instructions_of(bundle: Bundle) -> InstructionEncoder | NoInstructions:
    """What turns an instruction into what the bundle's graph is fed."""
    prompt = bundle.manifest.prompt
    return NoInstructions(bundle.manifest.name) if prompt is None else InstructionEncoder(bundle, prompt)


class NoInstructions:
    """Of a policy without text: it does the one thing that it was trained for.

    Args:
        name: of the bundle.
    """

    texts: tuple[str, ...] = ()

    def __init__(self, name: str) -> None:
        self._name = name
        self._nothing = EncodedInstruction(None, {})

    def encode(self, text: str | None) -> EncodedInstruction:
        """Nothing, for None.

        Raises:
            InstructionError: an instruction was given.
        """
        if text is None:
            return self._nothing
        raise InstructionError(
            f"the bundle {self._name!r} holds a policy without text, which takes no instruction; {text!r} was given.",
            "Leave the instruction out.",
        )


class InstructionEncoder:
    """Looks up declared instructions, and tokenises new ones where the bundle can.

    Texts are compared in Unicode's composed form (NFC) without surrounding space: Korean typed on macOS
    arrives decomposed.

    Args:
        bundle: an opened bundle.
        prompt: of its manifest.
    """

    def __init__(self, bundle: Bundle, prompt: Prompt) -> None:
        self._manifest = bundle.manifest
        self._prompt = prompt
        self._tokenizer_path = bundle.folder / TOKENIZER_NAME
        self._tokenizer_sha256 = next(
            (entry.sha256 for entry in bundle.manifest.files if entry.path == TOKENIZER_NAME), ""
        )
        full = prompt.vocabulary == "full" and bundle.has(TOKENIZER_NAME)
        # A graph that takes an index holds the features of the declared instructions only.
        indexed = self._manifest.input_of("instruction_index") is not None
        self._takes_new_text = full and not indexed
        self._declared = {
            normal_text(each.text): self._padded(each.text, each.graph_ids, at)
            for at, each in enumerate(self._manifest.instructions)
        }
        self._new = lru_cache(maxsize=_TEXTS_KEPT)(self._tokenise)

    @property
    def texts(self) -> tuple[str, ...]:
        """The declared instructions."""
        return tuple(each.text for each in self._manifest.instructions)

    def encode(self, text: str | None) -> EncodedInstruction:
        """Encode an instruction; None stands for the bundle's default.

        Raises:
            InstructionError: not declared, and the bundle cannot take new ones; or it is too long.
            BundleError: its tokenizer is not the one that was exported, or none that can be used.
        """
        wanted = self._manifest.default_instruction if text is None else text
        if not isinstance(wanted, str):
            raise InstructionError(f"an instruction is text, not {type(wanted).__name__}.", "Give a str.")
        if len(wanted) > MAX_TEXT_CHARACTERS:
            raise InstructionError(
                f"the instruction has {len(wanted)} characters, at most {MAX_TEXT_CHARACTERS} are taken.",
                "Shorten it.",
            )
        key = normal_text(wanted)
        found = self._declared.get(key)
        if found is not None:
            return found
        if not self._takes_new_text or not key:
            raise self._unknown(wanted)
        return self._new(key)

    def _unknown(self, text: str) -> InstructionError:
        listed = ", ".join(repr(each) for each in self.texts[:_LISTED_AT_MOST])
        more = len(self.texts) - _LISTED_AT_MOST
        listed += f" and {more} more" if more > 0 else ""
        near = _nearest(normal_text(text), self._declared)
        hint = f"Did you mean {self._declared[near].text!r}? " if near else ""
        return InstructionError(
            f"the bundle {self._manifest.name!r} does not hold the instruction {text!r}; "
            f"it holds {len(self.texts)}: {listed}.",
            f"{hint}Use one that it holds, or export with this one declared (or with --keep-vocabulary).",
        )

    def _tokenise(self, text: str) -> EncodedInstruction:
        """Fill the manifest's template and tokenise it, as the export did.

        The declared default must come out as the manifest has it, and the part before the text must stay
        what it is; otherwise this tokenizer works differently here, and a guess would move the robot.
        """
        default = self._default
        start_of_text = self._prompt.image_start + self._prompt.image_tokens + 1
        if (
            self._ids(normal_text(default.text)) != default.token_ids
            or default.graph_ids != default.token_ids
        ):
            raise InstructionError(
                f"{self._tokenizer_path} does not give the ids of the default instruction {default.text!r} "
                "that the manifest has, so new instructions cannot be trusted.",
                "Use a declared instruction, or export the bundle again.",
            )
        ids = self._ids(text)
        if ids[:start_of_text] != default.graph_ids[:start_of_text]:
            raise InstructionError(f"{text!r} changes the prompt's image part.", "Leave out special tokens.")
        special = self._special.held(text, ids, self._ids(""))
        if special is not None:
            raise InstructionError(
                f"{text!r} holds the special token {special!r}.", "Leave out special tokens."
            )
        return self._padded(text, ids, None)

    @cached_property
    def _default(self) -> Instruction:
        wanted = self._manifest.default_instruction
        return next(each for each in self._manifest.instructions if each.text == wanted)

    def _ids(self, text: str) -> tuple[int, ...]:
        prompt = self._prompt
        slots = " ".join(["<image>"] * prompt.image_tokens)
        filled = prompt.template.replace("{image_tokens}", slots).replace("{instruction}", text)
        try:
            return tuple(text_ids(self._tokenizer, filled))
        except TokenizerError as error:
            raise InstructionError(f"{text!r} cannot be tokenised: {error}.", "Word it otherwise.") from error

    @cached_property
    def _special(self) -> SpecialTokens:
        return SpecialTokens(self._tokenizer)

    @cached_property
    def _tokenizer(self) -> Any:
        """Of exactly the bytes that the manifest lists, also where the bundle was opened by sizes alone."""
        path = self._tokenizer_path
        try:
            data = read_regular(path, MAX_TOKENIZER_BYTES)
            if hashlib.sha256(data).hexdigest() != self._tokenizer_sha256:
                raise TokenizerError("its SHA-256 is not the manifest's")
            return load_tokenizer(data)
        except ImportError as error:
            raise InstructionError(
                "a new instruction needs the package tokenizers, which is missing.", "pip install tokenizers"
            ) from error
        except OSError as error:
            raise BundleError(
                f"{path} cannot be read: {error.strerror}.", "Copy the bundle again."
            ) from error
        except TokenizerError as error:
            raise BundleError(f"{path} is not a tokenizer: {error}.", "Export the bundle again.") from error

    def _padded(self, text: str, ids: Iterable[int], index: int | None) -> EncodedInstruction:
        prompt = self._prompt
        tokens = np.fromiter(ids, np.int32)
        if len(tokens) > prompt.length:
            raise InstructionError(
                f"{text!r} makes a prompt of {len(tokens)} tokens, the graph takes {prompt.length}.",
                f"Shorten it by {len(tokens) - prompt.length} tokens, or export with a longer prompt.",
            )
        if tokens.max(initial=0) >= prompt.vocabulary_rows:
            raise InstructionError(
                f"{text!r} has a token beyond the {prompt.vocabulary_rows} embedding rows.",
                "Use a declared instruction.",
            )
        token_ids = np.full(prompt.length, prompt.pad_id, np.int32)
        token_ids[: len(tokens)] = tokens
        attention_mask = np.zeros(prompt.length, np.int32)
        attention_mask[: len(tokens)] = 1
        fed: dict[InputRole, np.ndarray | int] = {"token_ids": token_ids, "attention_mask": attention_mask}
        return EncodedInstruction(text, fed if index is None else {**fed, "instruction_index": index})


def _nearest(text: str, declared: Iterable[str]) -> str | None:
    """The declared instruction that was probably meant, sought by a budget where beginning and end agree most."""
    left = _HINT_PAIRS
    compared = []
    for candidate in sorted(declared, key=lambda each: -_agreement(each, text)):
        left -= len(text) * len(candidate)
        if left < 0:
            break
        compared.append(candidate)
    return next(iter(difflib.get_close_matches(text, compared, n=1)), None)


def _agreement(one: str, other: str) -> int:
    """How many letters agree at the beginning and at the end."""
    return _common_letters(one[:_ENDS], other[:_ENDS]) + _common_letters(
        one[: -_ENDS - 1 : -1], other[: -_ENDS - 1 : -1]
    )


def _common_letters(one: str, other: str) -> int:
    """How many letters two texts have in common before the first that differs."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (mine, theirs) in enumerate(pairs) if mine != theirs), min(len(one), len(other)))
