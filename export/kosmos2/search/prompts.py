"""The decoder over several prompts about the same image: what they begin with alike is computed once.

In a causal decoder a state depends on what stands before it and on nothing behind. So the keys and values over the
common beginning (the image, and what stands before and after it) serve every prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile

import torch
from torch import Tensor

from vla_edge.export.kosmos2.reference import VlaPolicy


def states_of_prompts(policy: VlaPolicy, image: Tensor, prompts: Sequence[Sequence[int]]) -> list[Tensor]:
    """What `VlaPolicy.text_states` gives for each prompt by itself, but for the order of additions.

    Args:
        policy: with the image's place in its settings.
        image: what stands for the image, [B, tokens, C].
        prompts: token ids, one of the image's place in all; none is padded.

    Returns:
        The decoder's last states for each, [B, L, C].
    """
    from transformers import DynamicCache

    shared = common_beginning(prompts)
    if len(prompts) < 2 or not shared:
        return [policy.text_states(image, rows, torch.ones_like(rows)) for rows in map(_rows(image), prompts)]
    cache = DynamicCache()

    def decoded(embedded: Tensor, length: int) -> Tensor:
        """The states of the next tokens, up to `length` with those in the cache."""
        states: Tensor = policy.kosmos_model.text_model(
            inputs_embeds=embedded,
            attention_mask=torch.ones(len(image), length, dtype=torch.long, device=image.device),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return states

    embedded = [policy.embedded(image, rows) for rows in map(_rows(image), prompts)]
    first = decoded(embedded[0][:, :shared], shared)
    found = []
    for whole in embedded:
        length = whole.shape[1]
        if length == shared:
            found.append(first)
            continue
        rest = decoded(whole[:, shared:], length)
        cache.crop(shared - length)  # a negative number is removed
        found.append(torch.cat([first, rest], dim=1))
    return found


def common_beginning(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with alike."""
    return len(list(takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False))))


def _rows(image: Tensor) -> Callable[[Sequence[int]], Tensor]:
    return lambda ids: torch.tensor(ids, device=image.device).expand(len(image), -1)
