"""The settings that a policy rests on and nobody knows: what each would change if it were otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vla_edge.export.family import Guess
from vla_edge.export.screen.screen import as_text
from vla_edge.runtime.bundle.manifest import Manifest

from .settings_rules import RULES

# What a robot does where the setting is not the training's. No gate sees any of it: the reference has the
# same settings as the graph.
IF_WRONG: Mapping[str, str] = {
    "frame": (
        "if one image predicted the whole sequence in training, the policy is asked about frames that it never saw; "
        "with first it answers an episode's first frame alone, and that action is held until reset"
    ),
    "features": "the policy's own layers read states that they were not trained on: actions mean nothing",
    "prompt": "the text starts with tokens that training did not have: actions are off",
    "projection_attention": "image tokens differ: actions are off (transformers' default since 4.52 is causal)",
    "final_tanh": "the output is x instead of tanh(x), or the reverse: fast moves are too fast or too slow",
    "lstm_window": "the LSTM runs more or fewer steps than in training: actions are off",
    "lstm_outputs": "another of the steps is taken as the action",
}
_OTHERWISE: Mapping[str, str] = {
    "frame": "first",
    "prompt": "image_first_grounding",
    "projection_attention": "causal",
    "lstm_window": "1 to 64",
    "lstm_outputs": "1 to lstm_window",
}
# Two features of the same width, so that one can stand for the other.
_SAME_WIDTH = {"text": "image_projection", "image_projection": "text"}


def guesses(manifest: Manifest) -> tuple[Guess, ...]:
    """The guesses of a bundle that make a difference to its policy.

    Raises:
        InputError: its settings are not those of this version.
    """
    return tuple(
        Guess(name, taken, _otherwise(name, taken), IF_WRONG.get(name, "actions are off"))
        for name, taken in assumed_settings(manifest).items()
    )


def likely(manifest: Manifest) -> dict[str, Any]:
    """Defaults that the training code makes likely, and no file confirms, as far as they make a difference.

    Raises:
        InputError: as `guesses`.
    """
    features = set(RULES.from_manifest(manifest).features)
    needless = set(assumed_settings(manifest))  # what is likely for one layout may be a guess for another
    if not features & {"clip_image", "clip_text"}:
        needless |= {"clip_feature", "clip_activation"}
    if not features & {"text", "image_projection"}:
        needless.add("pooling")
    return {
        name: setting.value
        for name, setting in manifest.settings.items()
        if setting.origin == "default" and setting.standing.startswith("likely") and name not in needless
    }


def _otherwise(name: str, taken: Any) -> str:
    if name == "features":
        return _other_features(taken)
    if isinstance(taken, bool):
        return "false" if taken else "true"
    return _OTHERWISE.get(name, "see --list-settings")


def _other_features(taken: Any) -> str:
    """One set that fits the same shapes for certain; others may, by their widths."""
    swapped = [_SAME_WIDTH.get(feature, feature) for feature in taken]
    return as_text(swapped) if swapped != list(taken) else "others of these widths"


def assumed_settings(manifest: Manifest) -> dict[str, Any]:
    """What a bundle rests on that nobody knows: settings of unknown standing, left at their default.

    Left out are those that make no difference to this policy.
    """
    settings = RULES.from_manifest(manifest)
    needless: set[str] = set()
    if not {"text", "image_projection"} & set(settings.features):
        needless.add("projection_attention")
    if "text" not in settings.features:
        needless.add("prompt")
    if manifest.source.layout == "pure":
        needless.add("final_tanh")  # unknown for hybrids only
    if settings.lstm != "window":
        needless |= {"lstm_window", "lstm_outputs"}
    return {
        name: setting.value
        for name, setting in manifest.settings.items()
        if setting.origin == "default" and "unknown" in setting.standing and name not in needless
    }
