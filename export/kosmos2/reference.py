"""The policies in PyTorch: the reference that every exported file is compared with.

The backbones are transformers' (or open_clip's) own modules, so that the reference shares no line with
the graph writer in `graph/`. Modules are built on the meta device from shapes alone, and the weights
are assigned from the memory-mapped checkpoint: no second copy of 7 GB is made, and pages that are not
used are never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vla_edge.runtime.errors import InputError

from .architecture import Architecture, HeadLayer
from .backbones import Attention, clip, kosmos, no_initialisation, set_causal
from .settings import PolicySettings


class ActionHead(nn.Module):
    """`actions.mlp`: a Sequential whose positions are those of the checkpoint."""

    def __init__(self, layers: tuple[HeadLayer, ...]) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        for layer in layers:
            modules += [nn.Identity()] * (layer.index - len(modules))
            modules.append(
                nn.Linear(layer.input, layer.output) if layer.kind == "linear" else nn.LayerNorm(layer.output)
            )
            if layer.relu:
                modules.append(nn.ReLU())
        self.mlp = nn.Sequential(*modules)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.mlp(hidden)


class VlaPolicy(nn.Module):
    """A Kosmos-2 policy, pure or with CLIP, as trained.

    Call it with the graph's inputs (see `forward`); it returns the stages and the actions by name.
    """

    kosmos_model: Any  # of transformers, and of either library: neither is typed
    clip_model: Any
    clip_ids: Tensor

    def __init__(self, arch: Architecture, settings: PolicySettings, attention: Attention = "eager") -> None:
        super().__init__()
        self.arch = arch
        self.settings = settings
        self.kosmos_model = kosmos(arch, attention)
        set_causal(
            self.kosmos_model.image_to_text_projection.x_attn, settings.projection_attention == "causal"
        )
        if arch.clip:
            self.clip_model = clip(arch.clip, settings.clip_activation, attention)
        if arch.fusion:
            self.feature_fusion = nn.Linear(*arch.fusion)
        self.rnn = nn.LSTM(arch.lstm.input, arch.lstm.hidden, arch.lstm.layers, batch_first=True)
        self.actions = ActionHead(arch.head)
        # filled by `build_empty`: on the meta device ids would have no content
        self.register_buffer("clip_ids", torch.zeros(0, 77, dtype=torch.long), persistent=False)

    @torch.inference_mode()
    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        instruction_index: Tensor | None = None,
        h_in: Tensor | None = None,
        c_in: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Run one step.

        Args:
            pixel_values: [B, 3, H, W], normalised; float of the policy's dtype.
            input_ids: [B, L] integer token ids of the tokenizer, padded on the right.
            attention_mask: [B, L], 1 for real tokens.
            instruction_index: [B], position in `settings.instructions`; for CLIP's text feature.
            h_in, c_in: [layers, B, hidden], where state is carried.

        Returns:
            "actions" [B, steps, size] before scale and offset; "vision", "text", "clip", "fusion" where they
            exist; "h_out" and "c_out" where state is carried.
        """
        out: dict[str, Tensor] = {}
        features = self._features(pixel_values, input_ids, attention_mask, instruction_index, out)
        fused = self.fuse(features)
        if self.arch.fusion:
            out["fusion"] = fused
        hidden = self._recur(fused, h_in, c_in, out)
        out["actions"] = self.decide(hidden)
        return out

    def fuse(self, features: Sequence[Tensor]) -> Tensor:
        """Features [..., width each] as the LSTM takes them: [..., input]."""
        fused = torch.cat([*features], dim=-1)
        return self.feature_fusion(fused) if self.arch.fusion else fused

    def decide(self, hidden: Tensor) -> Tensor:
        """The LSTM's outputs [..., hidden] as actions [..., size], before scale and offset."""
        actions = self.actions(hidden)
        return torch.tanh(actions) if self.settings.final_tanh else actions

    def _features(
        self,
        pixel_values: Tensor,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        instruction_index: Tensor | None,
        out: dict[str, Tensor],
    ) -> list[Tensor]:
        wanted = self.settings.features
        values: dict[str, Tensor] = {}
        if {"text", "image_projection", "vision"} & set(wanted):
            values |= self._kosmos_features(pixel_values, input_ids, attention_mask, out)
        if "clip_image" in wanted:
            values["clip_image"] = out["clip"] = self.clip_image(pixel_values)
        if "clip_text" in wanted:
            if instruction_index is None:
                raise ValueError("instruction_index is needed where CLIP's text feature is used")
            values["clip_text"] = self.clip_text(self.clip_ids[instruction_index.long()])
        return [values[name] for name in wanted]

    def _kosmos_features(
        self,
        pixel_values: Tensor,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        out: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        wanted = self.settings.features
        if "text" not in wanted and "image_projection" not in wanted:
            out["vision"] = self.vision(pixel_values)
            return {"vision": out["vision"]}
        tokens, states = self.image_tokens(pixel_values)
        out["vision"] = tokens
        values = {}
        if "vision" in wanted:
            values["vision"] = self.vision_of(states)
        if "image_projection" in wanted:
            values["image_projection"] = pool(tokens, None, self.settings.pooling)
        if "text" in wanted:
            if input_ids is None or attention_mask is None:
                raise ValueError("input_ids and attention_mask are needed where the text feature is used")
            text = self.text_states(tokens, input_ids, attention_mask)
            values["text"] = out["text"] = pool(text, attention_mask, self.settings.pooling)
        return values

    def vision(self, pixel_values: Tensor) -> Tensor:
        """The vision tower's pooled state, [B, width], where nothing else of Kosmos-2 is used."""
        pooled: Tensor = self.kosmos_model.vision_model(pixel_values=pixel_values).pooler_output
        return pooled

    def image_tokens(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """What stands for the image in the text, [B, tokens, C], and the vision tower's states, [B, patches, width]."""
        image = self.kosmos_model.get_image_features(pixel_values, return_dict=True)
        return image.pooler_output, image.last_hidden_state

    def tokens_of(self, states: Tensor) -> Tensor:
        """The image tokens that `image_tokens` gives, from the tower's states: the rest of `get_image_features`."""
        normal = nn.functional.normalize(self.kosmos_model.vision_model.model.post_layernorm(states), dim=-1)
        tokens: Tensor = self.kosmos_model.image_to_text_projection(normal)[0]
        return tokens

    def vision_states(self, pixel_values: Tensor) -> Tensor:
        """The vision tower's states that `image_tokens` gives, alone."""
        states: Tensor = self.kosmos_model.vision_model(pixel_values=pixel_values).last_hidden_state
        return states

    def vision_of(self, states: Tensor) -> Tensor:
        """What `vision` gives, from the tower's states."""
        pooled: Tensor = self.kosmos_model.vision_model.model.post_layernorm(states[:, 0])
        return pooled

    def text_states(self, image: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The decoder's last states over image and text, [B, L, C]; arguments as of `forward` and `image_tokens`."""
        # Positions count from the left, and padding on the right is never attended to.
        states: Tensor = self.kosmos_model.text_model(
            inputs_embeds=self.embedded(image, input_ids), attention_mask=attention_mask, use_cache=False
        ).last_hidden_state
        return states

    def embedded(self, image: Tensor, input_ids: Tensor) -> Tensor:
        """What the decoder starts from: the words' embeddings with the image in its place, [B, L, C]."""
        # The image's place is fixed, so it is spliced by concatenation: Kosmos2Model's own way, by boolean
        # mask, asks the GPU how many places there are and so cannot be captured in a CUDA graph.
        start, stop = self.settings.image_start, self.settings.image_start + self.arch.image_tokens
        words = self.kosmos_model.text_model.model.embed_tokens(input_ids.long())
        return torch.cat([words[:, :start], image, words[:, stop:]], dim=1)

    def clip_image(self, pixel_values: Tensor) -> Tensor:
        """CLIP's image feature of [B, 3, H, W]: [B, embed]."""
        if self.arch.clip and self.arch.clip.form == "open_clip":
            feature = self.clip_model.encode_image(pixel_values)
        else:
            vision = self.clip_model.vision_model(pixel_values=pixel_values)
            feature = self.clip_model.visual_projection(vision.pooler_output)
        return self.maybe_normalize(feature)

    def clip_text(self, ids: Tensor) -> Tensor:
        """CLIP's text feature of [N, 77] ids: [N, embed]."""
        if self.arch.clip and self.arch.clip.form == "open_clip":
            feature = self.clip_model.encode_text(ids)
        else:
            text = self.clip_model.text_model(input_ids=ids)
            feature = self.clip_model.text_projection(text.pooler_output)
        return self.maybe_normalize(feature)

    def maybe_normalize(self, feature: Tensor) -> Tensor:
        if self.settings.clip_feature == "projected_normalized":
            return nn.functional.normalize(feature, dim=-1)
        return feature

    def _recur(
        self, fused: Tensor, h_in: Tensor | None, c_in: Tensor | None, out: dict[str, Tensor]
    ) -> Tensor:
        if self.settings.lstm == "carried":
            if h_in is None or c_in is None:
                raise ValueError("h_in and c_in are needed where the state is carried")
            hidden, (out["h_out"], out["c_out"]) = self.rnn(fused[:, None], (h_in, c_in))
            return hidden
        steps = self.settings.lstm_window if self.settings.lstm == "window" else 1
        hidden, _ = self.rnn(fused[:, None].repeat(1, steps, 1))
        return hidden[:, -self.settings.lstm_outputs :]


def build_empty(arch: Architecture, settings: PolicySettings, attention: Attention = "eager") -> VlaPolicy:
    """The policy without weights: parameters on the meta device, buffers real."""
    with torch.device("meta"), no_initialisation():
        policy = VlaPolicy(arch, settings, attention)
    policy.clip_ids = (
        clip_instruction_ids(settings).long() if "clip_text" in settings.features else torch.zeros(0, 77)
    )
    return policy.eval().requires_grad_(False)


def clip_instruction_ids(settings: PolicySettings) -> Tensor:
    """CLIP token ids of the declared instructions, int64 [N, 77]; open_clip ships the vocabulary.

    Raises:
        InputError: an instruction holds a special token of CLIP's, where its feature would be taken from.
    """
    import open_clip

    tokenize: Any = open_clip.get_tokenizer("ViT-B-32")
    ids: Tensor = tokenize(list(settings.instructions))
    begin_id, end_id = tokenize.sot_token_id, tokenize.eot_token_id
    for text, row in zip(settings.instructions, ids, strict=True):
        if int((row == begin_id).sum()) != 1 or int((row == end_id).sum()) != 1:
            raise InputError(
                f"instruction {text!r} holds a special token of CLIP's: <start_of_text> or <end_of_text>.",
                "Leave it out.",
            )
    return ids


def pool(states: Tensor, mask: Tensor | None, how: str) -> Tensor:
    """Pool [B, L, C] over real tokens to [B, C]."""
    if mask is None:
        mask = torch.ones(states.shape[:2], dtype=torch.long, device=states.device)
    real = mask.bool()[..., None]
    if how == "max":
        return states.masked_fill(~real, float("-inf")).amax(dim=1)
    if how == "mean":
        return (states * real).sum(dim=1) / real.sum(dim=1)
    last = mask.sum(dim=1).long() - 1
    return states[torch.arange(states.shape[0], device=states.device), last]
