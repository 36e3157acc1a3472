"""Tokens with a meaning of their own, such as `<s>` and `<image>`: an instruction has no business with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct


class _Model(Struct, frozen=True):
    unk_id: int | None = None
    unk_token: str | None = None


class _Unknown(Struct, frozen=True):
    """What a tokenizer's file says of words that it does not know."""

    model: _Model


class SpecialTokens:
    """Which of a tokenizer's tokens no instruction may hold.

    These are the added ones that it calls special or that look like a tag (Kosmos-2's `<image>`, `<grounding>` and
    patch indices are not called so). The token for unknown words comes of any word that the tokenizer lacks: it
    is refused only where it is spelled out.

    Args:
        tokenizer: from `file.load_tokenizer`.
    """

    def __init__(self, tokenizer: Any) -> None:
        added = tokenizer.get_added_tokens_decoder().items()
        self._contents = {
            id_: token.content for id_, token in added if token.special or _is_tag(token.content)
        }
        model = msgspec.json.decode(tokenizer.to_str(), type=_Unknown).model
        unknown = model.unk_id if model.unk_token is None else tokenizer.token_to_id(model.unk_token)
        self._telling = self._contents.keys() - {unknown}

    def held(self, text: str, ids: Iterable[int], bare_ids: Iterable[int]) -> str | None:
        """The special token that an instruction holds, if any.

        Its ids tell what only becomes one by normalising, as full-width letters do, or where the template ends.

        Args:
            text: the instruction, composed (NFC).
            ids: of the whole prompt.
            bare_ids: of the prompt with an empty instruction.
        """
        spelled = next((content for content in self._contents.values() if content in text), None)
        if spelled is not None:
            return spelled
        wanted = Counter(filter(self._telling.__contains__, bare_ids))
        found = Counter(filter(self._telling.__contains__, ids))
        return next((self._contents[id_] for id_ in (found - wanted) + (wanted - found)), None)


def _is_tag(content: str) -> bool:
    return content.startswith("<") and content.endswith(">")
