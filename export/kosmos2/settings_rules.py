"""How the settings are settled, and those that cannot be meant: for these shapes, a robot, or a manifest."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Collection, Mapping
from typing import Any

from vla_edge.export.settings.rules import SettingRules
from vla_edge.runtime.errors import CheckpointError, InputError
from vla_edge.runtime.printable import printable

from .architecture import Architecture
from .settings import STANDING, Feature, PolicySettings, defaults_for

# What a graph's output of 1 may stand for, m/s. Below, every error would pass every gate; above, nothing drives.
SMALLEST_SCALE_MPS = 1e-6
LARGEST_MPS = 1e6
SMALLEST_IMAGE_STD = 1e-6

_ACTION_FIELDS = ("action_names", "action_scale", "action_offset", "action_limit")
_FLOATS = ("image_mean", "image_std", "action_scale", "action_offset", "action_limit")
_CHECKPOINT_KEYS = {"action_scale": "action_std", "action_offset": "action_mean"}


def action_normalisation(extra: Mapping[str, Any], given: Collection[str] = ()) -> dict[str, Any]:
    """`action_mean` and `action_std`, where a checkpoint carries them, as offset and scale.

    Args:
        extra: what the checkpoint holds beside the weights; lists of numbers as lists.
        given: names of the settings that the user gives; what they replace is not looked at.

    Raises:
        CheckpointError: one of them is no array of finite numbers, a standard deviation is not above 0, or
            they are of different lengths.
    """
    found = {}
    for key, setting in (("action_std", "action_scale"), ("action_mean", "action_offset")):
        if extra.get(key) is not None and setting not in given:
            found[setting] = _finite_numbers(key, extra[key])
    scale, offset = found.get("action_scale"), found.get("action_offset")
    if scale is not None and min(scale) <= 0:
        raise CheckpointError(
            f"the checkpoint's action_std is {_shown(scale)}; a standard deviation is above 0.",
            "With 0 the robot would not move, and every error would pass. Give the m/s that an output of 1 "
            "stands for: --set action_scale=[2.0,2.0]",
        )
    if scale is not None and offset is not None and len(scale) != len(offset):
        raise CheckpointError(
            f"the checkpoint's action_std has {len(scale)} values, its action_mean {len(offset)}.",
            "Give both: --set action_scale=[2.0,2.0] --set action_offset=[0.0,0.0]",
        )
    return found


def _finite_numbers(key: str, value: Any) -> list[float]:
    import numpy as np

    try:
        array = np.asarray(value)
        numbers = array.astype(np.float64).reshape(-1) if array.dtype.kind in "iuf" else np.zeros(0)
    except (ValueError, OverflowError, RecursionError):  # lists of differing lengths, nested without end
        numbers = np.zeros(0)
    if not numbers.size or not np.isfinite(numbers).all():
        raise CheckpointError(
            f"the checkpoint's {key} is {_shown(value)}, which are no finite numbers.",
            "Save it as a list or tensor of one number for each component of the action.",
        )
    return [float(number) for number in numbers]


def _shown(value: Any) -> str:
    return printable(str(value))[:100]


def check_settings(arch: Architecture, settings: PolicySettings, origins: Mapping[str, str]) -> None:
    """Refuse settings that cannot be meant for these shapes.

    Raises:
        InputError: names the settings and what would fit.
    """
    _check_features(arch, settings)
    _check_action_sizes(arch, settings, origins)
    _check_window(settings)
    _check_instructions(settings)
    _check_numbers(settings, origins)


def feature_width(arch: Architecture, feature: Feature) -> int:
    """The width of one feature, or 0 where the architecture does not have it."""
    if feature in ("text", "image_projection"):
        return arch.text.width
    if feature == "vision":
        return arch.vision.width
    return arch.clip.embed if arch.clip else 0


def _check_features(arch: Architecture, settings: PolicySettings) -> None:
    for feature in settings.features:
        if feature_width(arch, feature) == 0:
            raise InputError(
                f"setting features names {feature!r}, but layout {arch.layout} has no CLIP model.",
                "Use text, image_projection or vision.",
            )
    widths = [feature_width(arch, feature) for feature in settings.features]
    wanted = arch.fusion[0] if arch.fusion else arch.lstm.input
    if sum(widths) != wanted:
        target = "feature_fusion" if arch.fusion else "the LSTM"
        raise InputError(
            f"setting features={list(settings.features)} is {'+'.join(map(str, widths))} = {sum(widths)} wide, "
            f"but {target} takes {wanted}.",
            "Choose features whose widths add up.",
        )


def _check_action_sizes(arch: Architecture, settings: PolicySettings, origins: Mapping[str, str]) -> None:
    """All settings of another length than the policy's output at once, with a command that gives them."""
    lengths = {name: len(getattr(settings, name)) for name in _ACTION_FIELDS}
    wrong = {name: length for name, length in lengths.items() if length != arch.action_size}
    if not wrong:
        return
    found = ", ".join(
        f"{_named(name, origins)} has {length} value{'s' * (length != 1)}" for name, length in wrong.items()
    )
    raise InputError(
        f"setting {found}; the policy has {arch.action_size} outputs.",
        f"Give {arch.action_size} values of each, such as: {_example(wrong, settings, arch.action_size)}",
    )


def _example(names: Mapping[str, int], settings: PolicySettings, size: int) -> str:
    """Options for a shell: what there is, repeated or cut to the size."""
    axes = ["linear_x", "linear_y", "linear_z", *[f"output_{at}" for at in range(3, size)]]
    values: dict[str, list[Any]] = {"action_names": axes[:size]}
    for name in ("action_scale", "action_offset", "action_limit"):
        given = list(getattr(settings, name)) or [1.0]
        values[name] = [*given, *[given[-1]] * size][:size]
    return " ".join(f"--set {name}='{json.dumps(values[name], separators=(',', ':'))}'" for name in names)


def _named(name: str, origins: Mapping[str, str]) -> str:
    if origins.get(name) == "checkpoint":
        return f"{name} (the checkpoint's {_CHECKPOINT_KEYS.get(name, name)})"
    return name


def _check_window(settings: PolicySettings) -> None:
    if settings.lstm != "window" and settings.lstm_outputs != 1:
        raise InputError(
            f"setting lstm_outputs={settings.lstm_outputs} needs lstm=window.", "Add --set lstm=window."
        )
    if settings.lstm_outputs > settings.lstm_window:
        raise InputError(
            f"setting lstm_outputs={settings.lstm_outputs} is more than lstm_window={settings.lstm_window}.",
            "Take fewer outputs.",
        )


def _check_instructions(settings: PolicySettings) -> None:
    if settings.default_instruction not in settings.instructions:
        raise InputError(
            f"setting default_instruction {settings.default_instruction!r} is not among the instructions.",
            f"Instructions: {', '.join(map(repr, settings.instructions))}.",
        )
    if len(set(settings.instructions)) != len(settings.instructions):
        raise InputError("setting instructions lists one twice.", "List each once.")
    if len(set(settings.action_names)) != len(settings.action_names):
        raise InputError("setting action_names lists one twice.", "Give each output a name of its own.")
    for name in ("instructions", "action_names"):
        for text in getattr(settings, name):
            # Cc: a terminal would act on it; Cs: half a surrogate pair, no UTF-8 has it
            if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
                raise InputError(
                    f"setting {name} has {text!r}, with a character that cannot be printed.",
                    "Give plain text on one line.",
                )


def _check_numbers(settings: PolicySettings, origins: Mapping[str, str]) -> None:
    for name in _FLOATS:
        values = list(getattr(settings, name))
        if not all(map(math.isfinite, values)):
            raise InputError(
                f"setting {name}={values} has a value that is not finite.",
                "Give numbers; NaN and infinity cannot be kept in a manifest.",
            )
        if any(abs(value) > LARGEST_MPS for value in values):
            raise InputError(
                f"setting {name}={values} has a value beyond {LARGEST_MPS:g}.", "Check its unit."
            )
    if any(value <= 0 for value in settings.image_std):
        raise InputError(
            "setting image_std has a value that is not positive.", "Standard deviations are above 0."
        )
    if any(value < SMALLEST_IMAGE_STD for value in settings.image_std):
        raise InputError(f"setting image_std={list(settings.image_std)} is below {SMALLEST_IMAGE_STD:g}.", "")
    if any(abs(value) < SMALLEST_SCALE_MPS for value in settings.action_scale):
        raise InputError(
            f"setting {_named('action_scale', origins)}={list(settings.action_scale)} has a value below "
            f"{SMALLEST_SCALE_MPS:g} m/s: the robot would not move, and every error would pass.",
            "Give the m/s that an output of 1 stands for.",
        )


RULES = SettingRules(
    struct=PolicySettings,
    standing=STANDING,
    defaults=defaults_for,
    check=check_settings,
    by_layout={
        "features": "by the layout: text; text, clip_image; vision, clip_image; vision, clip_image, clip_text",
        "final_tanh": "true for the pure policy, false for hybrids",
        "clip_activation": "gelu for open_clip's checkpoints, quick_gelu for others",
    },
    example="Change one: --set pooling=mean. A list: --set 'action_scale=[2.0,2.0]'. Many: --settings FILE.yaml",
)
