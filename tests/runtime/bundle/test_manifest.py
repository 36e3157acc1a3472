"""Whatever bytes lie in manifest.json, reading them gives a manifest or a BundleError."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_edge.runtime.bundle.manifest import MAX_INSTRUCTIONS, Manifest, encode
from vla_edge.runtime.bundle.manifest_file import decode
from vla_edge.runtime.errors import BundleError

SETTING = {"value": 1, "origin": "default", "standing": "exact"}
BOUNDED = settings(max_examples=300, deadline=None)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def valid(pristine_bundle: Path) -> bytes:
    return (pristine_bundle / "manifest.json").read_bytes()


def decodes_or_is_refused(data: bytes) -> Manifest | None:
    """Anything but a BundleError fails the test; its words are looked at where it is the only way out."""
    try:
        return decode(data)
    except BundleError:
        return None


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def refusal(data: bytes) -> BundleError:
    with pytest.raises(BundleError, match=r"manifest\.json") as raised:
        decode(data)
    assert raised.value.hint
    return raised.value


@BOUNDED
@given(data=st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    refusal(data)


@BOUNDED
@given(data=st.data())
def test_a_truncated_manifest_is_refused(valid: bytes, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(valid.rstrip()) - 1))
    refusal(valid[:length])


@BOUNDED
@given(data=st.data())
def test_a_manifest_with_overwritten_bytes_is_read_or_refused(valid: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(valid) - 1))
    piece = data.draw(st.binary(min_size=1, max_size=8))
    decodes_or_is_refused(valid[:at] + piece + valid[at + len(piece) :])


@BOUNDED
@given(data=st.data())
def test_a_manifest_with_another_value_somewhere_is_read_or_refused(
    valid: bytes, data: st.DataObject
) -> None:
    fields = copy.deepcopy(json.loads(valid))
    holder: Any = fields
    while True:
        keys = sorted(holder) if isinstance(holder, dict) else range(len(holder))
        key = data.draw(st.sampled_from(list(keys)))
        if not holder[key] or not isinstance(holder[key], (dict, list)) or data.draw(st.booleans()):
            break
        holder = holder[key]
    if data.draw(st.booleans()):
        holder[key] = data.draw(JSON_VALUES)
    else:
        del holder[key]
    decodes_or_is_refused(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b'{"a":' * 100_000, b"[]", b"null", b"1", b'"text"', b"", b"\xff\xfe{}"]
)
def test_json_that_is_no_manifest_is_refused(data: bytes) -> None:
    refusal(data)


def test_writing_and_reading_gives_the_same_manifest(valid: bytes) -> None:
    assert encode(decode(valid)) == valid


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["action"].update(scale=[1.0]), "action.scale has 1 values for 2 action names"),
        (lambda m: m["preprocessing"].update(std=[1.0, 0.0, 1.0]), "std has a value that is not positive"),
        (lambda m: m.update(default_instruction="fly"), "'fly' is not among the instructions"),
        (lambda m: m["instructions"].append(m["instructions"][0]), "an instruction is listed twice"),
        (lambda m: m["prompt"].update(image_start=14), "the image tokens do not fit the prompt"),
        (lambda m: m["instructions"][0]["graph_ids"].append(1), "differing numbers of token and graph ids"),
        (lambda m: m["prompt"].update(length=8), "does not fit the prompt of 8 tokens"),
        (lambda m: m["prompt"].update(vocabulary_rows=5), "beyond the 5 embedding rows"),
        (lambda m: m["runtime"].update(state=[["h_in", "h_out"]]), "which the graph does not have"),
        (lambda m: m["files"].append(m["files"][0]), "a file is listed twice"),
    ],
)
def test_a_manifest_that_contradicts_itself_says_where(
    valid: bytes, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    fields = json.loads(valid)
    change(fields)
    assert words in refusal(json.dumps(fields).encode()).problem


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["prompt"].update(pad_id=2**31), "at `$.prompt.pad_id`"),
        (lambda m: m["prompt"].update(pad_id=32), "prompt.pad_id 32 is beyond the 32 embedding rows"),
        (lambda m: m["prompt"].update(length=2_000_000_000), "at `$.prompt.length`"),
        (lambda m: m["prompt"].update(template="{image_tokens}" * 2), "holds {image_tokens} 2 times"),
        (lambda m: m["prompt"].update(template="x" * 2000), "at `$.prompt.template`"),
        (lambda m: m["prompt"].update(template="go", vocabulary="full"), "holds {image_tokens} 0 times"),
        (lambda m: m["instructions"][0]["token_ids"].__setitem__(0, 2**31), "token_ids[0]`"),
        (
            lambda m: m["instructions"].append({**m["instructions"][0], "text": " 컵까지 가세요 "}),
            "' 컵까지 가세요 '",
        ),
        (
            lambda m: m["instructions"].append({**m["instructions"][0], "text": " \t"}),
            "an instruction is empty",
        ),
        (lambda m: m["outputs"][0].update(shape=[1, 10**10, 2]), "at `$.outputs[0].shape[1]`"),
        (lambda m: m["outputs"][0].update(shape=[1, 10**8, 2]), "its inputs and outputs take 8000"),
        (lambda m: m["inputs"][0].update(shape=[]), "Expected `array` of length >= 1"),
        (lambda m: m["inputs"][0].update(shape=[1] * 9), "Expected `array` of length <= 8"),
        (lambda m: m["inputs"][0].update(dtype="float16"), "pixel_values float16 [1, 3, 16, 16] has to be"),
        (lambda m: m["inputs"][1].update(dtype="float32"), "input_ids float32 [1, 16] has to be int32"),
        (lambda m: m["inputs"][1].update(shape=[16]), "input_ids int32 [16] has to be int32 of rank 2"),
        (lambda m: m["inputs"][1].update(name="pixel_values"), "two tensors are named 'pixel_values'"),
        (lambda m: m["outputs"][0].update(name="pixel_values"), "two tensors are named 'pixel_values'"),
        (lambda m: m["inputs"][1].update(shape=[2, 16]), "of several batch sizes"),
        (lambda m: m["outputs"][0].update(dtype="int32"), "actions int32 [1, 1, 2] has to be float32"),
        (lambda m: m["outputs"][0].update(shape=[1, 2]), "has to be float32 [batch, steps, 2]"),
        (lambda m: m.update(outputs=[]), "at `$.outputs`"),
        (lambda m: m["stages"][0].update(shape=[1, 2**28, 2**20]), "its stages take"),
        (lambda m: m["stages"].append(m["stages"][0]), "the stage 'text' is listed twice"),
        (lambda m: m["stages"][1].update(tensor="text"), "the stage 'action' is the tensor 'text'"),
        (lambda m: m["parity"]["gates"][0].update(metric="relative_l2"), "the gate of stage 'action'"),
        (lambda m: m["parity"].update(samples=10**12), "at `$.parity.samples`"),
        (
            lambda m: m["runtime"].update(state=[["pixel_values", "actions"]]),
            "runtime.state and the role 'pixels' of 'pixel_values' do not fit each other",
        ),
        (lambda m: m["action"].update(names=["x", "x"]), "two components of the action are named 'x'"),
        (lambda m: m["action"].update(names=[], scale=[], offset=[], limit=[]), "at `$.action.names`"),
        (lambda m: m["action"].update(scale=[0.0, 1.0]), "action.scale has a zero"),
        (lambda m: m["preprocessing"].update(height=10**9), "at `$.preprocessing.height`"),
        (lambda m: m["preprocessing"].update(std=[1e-300, 1, 1]), "beyond 10000 standard deviations"),
        (lambda m: m["preprocessing"].update(mean=[1e300, 1, 1]), "beyond 10000 standard deviations"),
        (lambda m: m["preprocessing"].update(scale=-1), "preprocessing.scale is not positive"),
        (lambda m: m["source"].update(file="../../etc/passwd"), "source.file '../../etc/passwd' is a path"),
        (lambda m: m.update(name="x\nPARITY CHECKED"), r"name 'x\nPARITY CHECKED' holds characters"),
        (lambda m: m.update(name="x\u202ed"), r"name 'x\u202ed' holds characters that no name has"),
        (lambda m: m["action"].update(names=["x\ty", "z"]), r"action.names 'x\ty' holds characters"),
        (lambda m: m["action"].update(names=["x", "\x9b31m"]), r"action.names '\x9b31m' holds characters"),
        (lambda m: m["settings"].update({"a\n": m["settings"]["lstm"]}), r"a setting's name 'a\n' holds"),
        (
            lambda m: m["settings"]["lstm"].update(value=nested(900)),
            "setting lstm is nested deeper than 16 levels",
        ),
        (lambda m: m["settings"]["lstm"].update(value={"a": nested(17)}), "setting lstm is nested deeper"),
        (lambda m: m["settings"]["lstm"].update(value=nested(17)), "setting lstm is nested deeper"),
        (lambda m: m.update(name="/etc"), "name '/etc' is a path, not a name"),
        (lambda m: m["source"].update(epoch=10**400), "at `$.source.epoch`"),
        (lambda m: m["source"].update(parameters=10**15), "at `$.source.parameters`"),
        (lambda m: m["files"][0].update(size_bytes=10**18), "size_bytes`"),
    ],
)
def test_a_value_that_later_code_could_not_bear_is_refused_where_it_stands(
    valid: bytes, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    fields = json.loads(valid)
    change(fields)
    assert words in refusal(json.dumps(fields).encode()).problem


def test_many_instructions_of_a_long_prompt_are_not_padded(valid: bytes) -> None:
    fields = json.loads(valid)
    fields["prompt"]["length"] = 1 << 16
    first = fields["instructions"][0]
    fields["instructions"] += [{**first, "text": f"go {at}"} for at in range(300)]
    assert "its prompts hold more than 16777216 tokens" in refusal(json.dumps(fields).encode()).problem


def test_carried_state_of_other_kinds_is_refused(make_bundle: Callable[..., Path]) -> None:
    fields = json.loads((make_bundle(carried=True) / "manifest.json").read_bytes())
    for change, words in (
        (lambda m: m["outputs"][0].update(shape=[1, 1, 3]), "carries h_out float32 [1, 1, 3] to h_in"),
        (lambda m: m["runtime"].update(state=[["h_in", "h_out"]] * 2), "runtime.state names 'h_in' twice"),
        (
            lambda m: [t.update(dtype="float16") for t in state_of(m)],
            "h_in float16 [1, 1, 2] has to be float32",
        ),
        (lambda m: [t.update(shape=[1, 2]) for t in state_of(m)], "h_in float32 [1, 2] has to be float32"),
        (
            lambda m: m["stages"].append({"name": "h_out", "tensor": "h_out", "shape": [2]}),
            "the stage 'h_out' has not the shape of the state 'h_out'",
        ),
    ):
        changed = copy.deepcopy(fields)
        changed["outputs"].sort(key=lambda tensor: tensor["name"] != "h_out")
        change(changed)
        assert words in refusal(json.dumps(changed).encode()).problem


def state_of(fields: dict[str, Any]) -> list[dict[str, Any]]:
    return [tensor for tensor in fields["inputs"] + fields["outputs"] if tensor["name"] in ("h_in", "h_out")]


def test_the_published_schema_is_the_one_that_the_types_imply_and_a_manifest_fits_it(
    tiny_bundle: Path,
) -> None:
    import jsonschema

    from vla_edge.runtime.bundle import manifest as module

    published = json.loads((Path(module.__file__).parent / "manifest.schema.json").read_text())
    assert published == module.json_schema(), (
        "python -m vla_edge.runtime.bundle.manifest > runtime/bundle/manifest.schema.json"
    )
    jsonschema.validate(json.loads((tiny_bundle / "manifest.json").read_text()), published)


def test_as_many_instructions_as_an_export_declares_are_taken_and_no_more(valid: bytes) -> None:
    from vla_edge.export.kosmos2.settings import PolicySettings

    fields = json.loads(valid)
    one = fields["instructions"][0]
    fields["instructions"] = [
        one,
        *({**one, "text": f"go {at}"} for at in range(MAX_INSTRUCTIONS - 1)),
    ]
    assert len(decode(json.dumps(fields).encode()).instructions) == MAX_INSTRUCTIONS
    texts = [each["text"] for each in fields["instructions"]]
    assert msgspec.convert({"instructions": texts}, PolicySettings).instructions == tuple(texts)
    fields["instructions"].append({**one, "text": "one more"})
    assert (
        "Expected `array` of length <= 1000 - at `$.instructions`"
        in refusal(json.dumps(fields).encode()).problem
    )
    with pytest.raises(msgspec.ValidationError, match="length <= 1000"):
        msgspec.convert({"instructions": [*texts, "one more"]}, PolicySettings)


@pytest.mark.parametrize("version", ["x" * 1_000_000, [1] * 100_000, {"a": ["b"] * 100_000}])
def test_a_schema_version_without_end_is_told_in_a_line(valid: bytes, version: object) -> None:
    problem = refusal(json.dumps({**json.loads(valid), "schema_version": version}).encode()).problem
    assert "this runtime reads versions 1 to 2" in problem
    assert len(problem) < 300


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda m, many: m["settings"].update(dict.fromkeys(many, SETTING)), "$.settings"),
        (lambda m, many: m["settings"].update({"n" * 201: SETTING}), "$.settings"),
        (lambda m, many: m.update(tools=dict.fromkeys(many, "1.0")), "$.tools"),
        (lambda m, many: m["source"].update(layout_reasons=many), "$.source.layout_reasons"),
        (lambda m, many: m["precision"].update(float32_islands=many), "$.precision.float32_islands"),
        (lambda m, many: m["parity"]["errors"].extend(m["parity"]["errors"] * 256), "$.parity.errors"),
    ],
)
def test_what_is_listed_one_by_one_has_an_end(
    valid: bytes, change: Callable[[dict[str, Any], list[str]], object], place: str
) -> None:
    fields = json.loads(valid)
    change(fields, [f"n{at}" for at in range(257)])
    assert f"`{place}" in refusal(json.dumps(fields).encode()).problem
