"""The libraries' own modules of which the reference is made, built from shapes alone."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vla_edge.runtime.errors import CheckpointError

from .architecture import Architecture, Clip

# How transformers computes attention: "eager" step by step, so that nothing is hidden from a comparison;
# "sdpa" by PyTorch's fused kernels, transformers' own default and the faster.
Attention = Literal["eager", "sdpa"]

PAD_ID = 1  # Kosmos-2's <pad>
CLIP_END_ID = 49407  # <|endoftext|> of CLIP's vocabulary


def kosmos(arch: Architecture, attention: Attention) -> nn.Module:
    """transformers' Kosmos-2, without its text head."""
    from transformers import Kosmos2Config, Kosmos2Model

    config = Kosmos2Config(
        text_config={
            "vocab_size": arch.text.vocabulary,
            "embed_dim": arch.text.width,
            "layers": arch.text.depth,
            "ffn_dim": arch.text.mlp,
            "attention_heads": arch.text.heads,
            "pad_token_id": PAD_ID,
        },
        vision_config={
            "hidden_size": arch.vision.width,
            "intermediate_size": arch.vision.mlp,
            "num_hidden_layers": arch.vision.depth,
            "num_attention_heads": arch.vision.heads,
            "image_size": arch.vision.image_size,
            "patch_size": arch.vision.patch,
        },
        latent_query_num=arch.image_tokens,
        attn_implementation=attention,
    )
    return Kosmos2Model(config)


def set_causal(x_attn: Any, causal: bool) -> None:
    """Say whether a latent query sees every image state, or only those up to its own number.

    Of itself transformers' module does the one in "eager" and the other in "sdpa", since its attention is the
    text decoder's and nobody tells it apart (https://github.com/huggingface/transformers/pull/39037).
    """
    x_attn.is_causal = causal
    if causal:  # which "eager" has no notion of
        x_attn.config = copy.deepcopy(x_attn.config)
        x_attn.config._attn_implementation = "sdpa"


def clip(shape: Clip, activation: str, attention: Attention) -> nn.Module:
    """CLIP, vision and text, by the library whose names the checkpoint has; `activation` is "quick_gelu" or "gelu"."""
    if shape.form == "open_clip":
        return _open_clip(shape, activation)  # which has fused kernels only
    return _transformers_clip(shape, activation, attention)


def _transformers_clip(clip: Clip, activation: str, attention: Attention) -> nn.Module:
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(
        projection_dim=clip.embed,
        vision_config={
            "hidden_size": clip.vision.width,
            "intermediate_size": clip.vision.mlp,
            "num_hidden_layers": clip.vision.depth,
            "num_attention_heads": clip.vision.heads,
            "image_size": clip.vision.image_size,
            "patch_size": clip.vision.patch,
            "hidden_act": activation,
            "projection_dim": clip.embed,
        },
        text_config={
            "vocab_size": clip.text.vocabulary,
            "hidden_size": clip.text.width,
            "intermediate_size": clip.text.mlp,
            "num_hidden_layers": clip.text.depth,
            "num_attention_heads": clip.text.heads,
            "max_position_embeddings": clip.text.context,
            "hidden_act": activation,
            "projection_dim": clip.embed,
            # where the text tower is not used its vocabulary may be of any size
            "bos_token_id": min(CLIP_END_ID, clip.text.vocabulary - 1) - 1,
            "eos_token_id": min(CLIP_END_ID, clip.text.vocabulary - 1),
        },
        attn_implementation=attention,
    )
    return CLIPModel(config)


def _open_clip(clip: Clip, activation: str) -> nn.Module:
    import open_clip

    return open_clip.CLIP(
        embed_dim=clip.embed,
        vision_cfg={
            "image_size": clip.vision.image_size,
            "layers": clip.vision.depth,
            "width": clip.vision.width,
            "head_width": 64,
            "mlp_ratio": clip.vision.mlp / clip.vision.width,
            "patch_size": clip.vision.patch,
        },
        text_cfg={
            "context_length": clip.text.context,
            "vocab_size": clip.text.vocabulary,
            "width": clip.text.width,
            "heads": clip.text.heads,
            "layers": clip.text.depth,
            "mlp_ratio": clip.text.mlp / clip.text.width,
        },
        quick_gelu=activation == "quick_gelu",
    )


def restore_buffers(policy: nn.Module) -> None:
    """Give the buffers that no state dict holds (positions, masks) their values again after meta construction."""
    for module in policy.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_meta:
                module._buffers[name] = _buffer_value(module, name, buffer)


def _buffer_value(module: nn.Module, name: str, like: Tensor) -> Tensor:
    if name == "position_ids":
        return torch.arange(like.shape[-1]).expand(tuple(like.shape)).clone()
    if name == "weights" and hasattr(module, "get_embedding"):  # Kosmos-2's sinusoids
        return module.get_embedding(like.shape[0], like.shape[1], module.padding_idx)  # type: ignore[operator]
    if name == "attn_mask":  # open_clip's causal mask
        return torch.full(tuple(like.shape), float("-inf")).triu_(1)
    raise CheckpointError(
        f"the library's module {type(module).__name__} has a buffer {name!r} that is not known here.",
        "Install the versions of transformers and open_clip_torch named in constraints.txt.",
    )


@contextlib.contextmanager
def no_initialisation() -> Iterator[None]:
    """Skip random initialisation: on the meta device it does nothing but take time."""
    from transformers.initialization import no_init_weights

    with no_init_weights():
        yield
