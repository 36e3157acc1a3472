"""Settings of the forward pass: defaults by layout, layering, and the words of refusals."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from vla_edge.export.checkpoint.checkpoint import read_checkpoint
from vla_edge.export.kosmos2.architecture import Architecture
from vla_edge.export.kosmos2.guesses import assumed_settings
from vla_edge.export.kosmos2.sample.sizes import sample_architecture
from vla_edge.export.kosmos2.settings import STANDING, PolicySettings
from vla_edge.export.kosmos2.settings_rules import RULES
from vla_edge.export.settings.text import parse_options, read_settings_file
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import Manifest
from vla_edge.runtime.errors import CheckpointError, InputError

PURE = sample_architecture("pure", "none", "tiny")
HYBRID = sample_architecture("hybrid-a", "transformers", "tiny")


def odd_head(outputs: int) -> Architecture:
    last = dataclasses.replace(PURE.head[-1], output=outputs)
    return dataclasses.replace(PURE, head=(*PURE.head[:-1], last))


def test_every_setting_states_its_standing() -> None:
    assert set(STANDING) == set(PolicySettings.__struct_fields__)
    assert all(text.split(":")[0].split()[0] in ("exact", "likely", "unknown") for text in STANDING.values())


@pytest.mark.parametrize(
    ("layout", "form", "features", "tanh", "activation"),
    [
        ("pure", "none", ("text",), True, "quick_gelu"),
        ("hybrid-a", "transformers", ("text", "clip_image"), False, "quick_gelu"),
        ("hybrid-a", "open_clip", ("text", "clip_image"), False, "gelu"),
        ("hybrid-b", "transformers", ("vision", "clip_image"), False, "quick_gelu"),
        ("hybrid-c", "transformers", ("vision", "clip_image", "clip_text"), False, "quick_gelu"),
    ],
)
def test_defaults_follow_the_layout(layout, form, features, tanh, activation) -> None:
    values = RULES.resolve(sample_architecture(layout, form, "tiny")).values
    assert (values.features, values.final_tanh, values.clip_activation) == (features, tanh, activation)


def test_an_option_wins_over_the_file_and_the_file_over_the_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("action_scale: [3.0, 3.0]\npooling: mean\n")
    resolved = RULES.resolve(
        PURE,
        checkpoint={"action_scale": [4.0, 4.0], "action_offset": [0.1, 0.1]},
        file=file,
        options={"pooling": "last"},
    )
    assert resolved.values.action_scale == (3.0, 3.0)
    assert resolved.values.pooling == "last"
    assert resolved.origins["action_scale"] == "file"
    assert resolved.origins["action_offset"] == "checkpoint"
    assert resolved.origins["pooling"] == "option"
    assert resolved.origins["frame"] == "default"


def test_the_first_instruction_given_becomes_the_default() -> None:
    resolved = RULES.resolve(PURE, options={"instructions": ["go left", "go right"]})
    assert resolved.values.default_instruction == "go left"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"poling": "max"}, "unknown setting 'poling'"),
        ({"pooling": "median"}, "Choices for pooling: max, mean, last"),
        ({"projection_attention": "half"}, "Choices for projection_attention: full, causal"),
        ({"features": ["sound"]}, "Choices for features: text, image_projection, vision, clip"),
        ({"features": ["text", "clip_image"]}, "has no CLIP model"),
        ({"features": ["vision"]}, "but the LSTM takes"),
        ({"lstm_outputs": 2}, "needs lstm=window"),
        ({"lstm": "window", "lstm_window": 2, "lstm_outputs": 3}, "is more than lstm_window=2"),
        ({"action_limit": [1.0]}, "setting action_limit has 1 value; the policy has 2 outputs"),
        ({"action_scale": [0, 0]}, "every error would pass"),
        ({"action_scale": [2.0, 1e-9]}, "has a value below 1e-06 m/s"),
        ({"action_offset": [1e9, 0]}, "has a value beyond 1e+06"),
        ({"image_std": [0.2, 1e-300, 0.2]}, "image_std=[0.2, 1e-300, 0.2] is below"),
        ({"action_scale": [10**400, 1]}, "as value 1: it is too large."),
        ({"action_names": ["x", "x"]}, "action_names lists one twice"),
        ({"instructions": ["go\x1b[2J"]}, "a character that cannot be printed"),
        ({"instructions": ["go\ud800"]}, "a character that cannot be printed"),
        ({"final_tanh": "yes"}, "Choices for final_tanh: true, false"),
        ({"action_limit": [0.0, 1.0]}, "action_limit"),
        ({"default_instruction": "fly"}, "'fly' is not among the instructions"),
        ({"instructions": ["a", "a"]}, "lists one twice"),
        ({"image_std": [0.2, 0.0, 0.2]}, "not positive"),
        ({"lstm_window": "many"}, "setting lstm_window cannot be 'many': it takes a whole number."),
        ({"lstm_window": 0}, "setting lstm_window cannot be 0: it takes a whole number, at least 1."),
        ({"instructions": 5}, "setting instructions cannot be 5: it takes a list."),
        ({"instructions": []}, "setting instructions cannot be []: it takes a list of at least 1 value."),
        ({"pooling": "foo"}, "setting pooling cannot be 'foo'.\nChoices for pooling: max, mean, last."),
        ({"pooling": 3}, "setting pooling cannot be 3: it takes text.\nChoices for pooling: max"),
        (
            {"features": ["text", "foo"]},
            "setting features cannot have 'foo' as value 2.\nChoices for features:",
        ),
        ({"image_mean": [1, 2]}, "setting image_mean cannot be [1, 2]: it takes a list of 3 values."),
        ({"image_mean": ["a", 1, 2]}, "setting image_mean cannot have 'a' as value 1: it takes a number."),
        ({"image_mean": None}, "setting image_mean cannot be null: it takes a list."),
        ({"action_limit": [1, -1]}, "cannot have -1 as value 2: it takes a number, above 0."),
        ({"action_names": ["a" * 300]}, "as value 1: it takes text of at most 200 letters."),
        (
            {"action_offset": [math.nan, 0.0]},
            "setting action_offset=[nan, 0.0] has a value that is not finite",
        ),
        ({"image_std": [math.inf, 1.0, 1.0]}, "image_std=[inf, 1.0, 1.0] has a value that is not finite"),
        ({"lstm_window": "many"}, "Look at vla-export --list-settings"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_in_words(options, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        RULES.resolve(PURE, options=options)


def test_widths_that_do_not_add_up_are_shown_with_their_sum() -> None:
    with pytest.raises(InputError, match=r"= \d+ wide, but feature_fusion takes \d+"):
        RULES.resolve(HYBRID, options={"features": ["text"]})


def test_options_are_json_where_they_parse_and_text_where_not() -> None:
    assert parse_options(["final_tanh=true", "pooling=mean", "action_scale=[1, 2]"]) == {
        "final_tanh": True,
        "pooling": "mean",
        "action_scale": [1, 2],
    }
    with pytest.raises(InputError, match="has no '='"):
        parse_options(["pooling"])


@pytest.mark.parametrize(
    ("content", "words"), [("- a\n- b\n", "not a mapping"), ("a: [", "is not YAML or JSON")]
)
def test_a_settings_file_that_is_no_mapping_is_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        read_settings_file(path)


def test_a_checkpoint_with_action_statistics_brings_its_own_scale(checkpoint_of: Callable[..., Path]) -> None:
    from vla_edge.export.kosmos2.settings_rules import action_normalisation

    assert read_checkpoint(checkpoint_of("pure")).extra.get("action_mean") is None
    assert action_normalisation({"action_mean": [0.1, 0.2], "action_std": [0.5, 0.6]}) == {
        "action_scale": [0.5, 0.6],
        "action_offset": [0.1, 0.2],
    }


@pytest.mark.parametrize(
    "value",
    ["half", {"x": 0.5}, [0.5, math.nan], [[1.0], [1.0, 2.0]], "tensor [32] float32", [True, False]],
    ids=str,
)
def test_action_statistics_that_are_no_finite_numbers_are_refused_by_name(value: object) -> None:
    from vla_edge.export.kosmos2.settings_rules import action_normalisation

    with pytest.raises(CheckpointError, match=r"the checkpoint's action_std is .* no finite numbers"):
        action_normalisation({"action_std": value})


@pytest.mark.parametrize(
    ("value", "shown"),
    [([0, 0], "[0.0, 0.0]"), ([0.5, -0.5], "[0.5, -0.5]"), ([[0.5], [0.0]], "[0.5, 0.0]"), (-1, "[-1.0]")],
)
def test_a_deviation_that_is_not_above_zero_is_refused_by_name(value: object, shown: str) -> None:
    from vla_edge.export.kosmos2.settings_rules import action_normalisation

    with pytest.raises(
        CheckpointError, match=re.escape(f"the checkpoint's action_std is {shown}; ")
    ) as raised:
        action_normalisation({"action_std": value, "action_mean": [0.0, 0.0]})
    assert "--set action_scale=" in raised.value.hint
    given = action_normalisation(
        {"action_std": value, "action_mean": [0.0, 0.0]}, given={"action_scale": [1, 1]}
    )
    assert given == {"action_offset": [0.0, 0.0]}


def test_a_deviation_of_zero_ends_an_export_unless_a_settings_file_replaces_it(
    tmp_path: Path, checkpoint_of: Callable[..., Path]
) -> None:
    import torch

    from vla_edge.export.pipeline import ExportOptions, export_bundle

    source = checkpoint_of("pure")
    path, file = tmp_path / "zero.pth", tmp_path / "settings.yaml"
    torch.save({**torch.load(source, weights_only=False), "action_std": [0.0, 0.0]}, path)
    options = ExportOptions(path, tmp_path / "out", ("fp32",), tokenizer=str(source.parent / "tokenizer"))
    with pytest.raises(CheckpointError, match="a standard deviation is above 0"):
        export_bundle(options)
    file.write_text("action_scale: [1.5, 1.5]")
    result = export_bundle(dataclasses.replace(options, settings_file=file))[0]
    assert result.manifest.action.scale == (1.5, 1.5)


@pytest.mark.parametrize("value", [[], [10**400, 1], [math.inf, 1], "half", b"\0"], ids=str)
def test_a_mean_that_is_no_finite_numbers_is_refused_by_name(value: object) -> None:
    from vla_edge.export.kosmos2.settings_rules import action_normalisation

    with pytest.raises(CheckpointError, match=r"the checkpoint's action_mean is .* no finite numbers"):
        action_normalisation({"action_mean": value})


def test_statistics_of_different_lengths_are_refused_by_name() -> None:
    from vla_edge.export.kosmos2.settings_rules import action_normalisation

    with pytest.raises(CheckpointError, match="action_std has 3 values, its action_mean 2"):
        action_normalisation({"action_std": [1, 1, 1], "action_mean": [0, 0]})


def test_statistics_of_another_length_than_the_output_name_the_checkpoints_key() -> None:
    with pytest.raises(
        InputError, match=r"action_scale \(the checkpoint's action_std\) has 3 values; the policy has 2"
    ):
        RULES.resolve(PURE, checkpoint={"action_scale": [1.0, 1.0, 1.0]})


def test_all_settings_that_an_odd_head_needs_are_named_at_once_with_a_command_that_works() -> None:
    odd = odd_head(3)
    with pytest.raises(InputError) as raised:
        RULES.resolve(odd)
    problem, hint = raised.value.problem, raised.value.hint
    assert problem == (
        "setting action_names has 2 values, action_scale has 2 values, action_offset has 2 values, "
        "action_limit has 2 values; the policy has 3 outputs."
    )
    options = [word.removeprefix("--set ") for word in re.findall(r"--set \S+", hint.replace("'", ""))]
    resolved = RULES.resolve(odd, options=parse_options(options)).values
    assert resolved.action_names == ("linear_x", "linear_y", "linear_z")
    assert resolved.action_scale == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("size", [1, 2, 4, 7])
def test_the_command_for_an_odd_head_fits_every_size(size: int) -> None:
    with pytest.raises(InputError) as raised:
        RULES.resolve(odd_head(size), options={"action_scale": [1.0] * (size + 1)})
    options = [
        word.removeprefix("--set ") for word in re.findall(r"--set \S+", raised.value.hint.replace("'", ""))
    ]
    resolved = RULES.resolve(odd_head(size), options=parse_options(options)).values
    assert len(set(resolved.action_names)) == len(resolved.action_limit) == size


def test_settings_survive_the_way_through_a_manifest() -> None:
    resolved = RULES.resolve(HYBRID, options={"pooling": "mean"})
    plain = msgspec.json.decode(
        msgspec.json.encode({name: setting.value for name, setting in resolved.for_manifest().items()})
    )
    assert msgspec.convert(plain, PolicySettings) == resolved.values


def manifest_of(manifest: Manifest, **options: object) -> Manifest:
    """A tiny bundle's manifest with settings changed as by options."""
    arch = sample_architecture(manifest.source.layout, "transformers", "tiny")
    settings = RULES.resolve(arch, options=options).for_manifest()
    return msgspec.structs.replace(manifest, settings=settings)


@pytest.mark.parametrize(
    ("layout", "options", "names"),
    [
        ("pure", {}, {"frame", "features", "prompt", "projection_attention"}),
        ("pure", {"projection_attention": "full"}, {"frame", "features", "prompt"}),
        (
            "pure",
            {"features": ["text"], "lstm": "window"},
            {"frame", "prompt", "projection_attention", "lstm_window", "lstm_outputs"},
        ),
        ("pure", {"features": ["image_projection"]}, {"frame", "projection_attention"}),
        ("hybrid-a", {}, {"frame", "features", "prompt", "projection_attention", "final_tanh"}),
        ("hybrid-b", {}, {"frame", "features", "final_tanh"}),
        ("hybrid-b", {"frame": "first"}, {"features", "final_tanh"}),
    ],
)
def test_what_nobody_knows_and_nobody_chose_is_assumed_where_it_matters(
    bundle_of: Callable[..., Path], layout: str, options: dict, names: set[str]
) -> None:
    form = "none" if layout == "pure" else "transformers"
    manifest = Bundle.open(bundle_of(layout, form)).manifest
    assert set(assumed_settings(manifest_of(manifest, **options))) == names
