"""Whatever bytes lie in manifest.json, reading them gives a manifest or a BundleError."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_edge.runtime.errors import BundleError
from vla_edge.runtime.manifest import Manifest, decode, encode

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


def refusal(data: bytes) -> BundleError:
    with pytest.raises(BundleError, match=r"manifest\.json") as raised:
        decode(data)
    assert raised.value.mend
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


def test_the_published_schema_is_the_one_that_the_types_imply_and_a_manifest_fits_it(
    tiny_bundle: Path,
) -> None:
    import jsonschema

    from vla_edge.runtime import manifest as module

    published = json.loads((Path(module.__file__).parent / "manifest.schema.json").read_text())
    assert published == module.json_schema(), (
        "python -m vla_edge.runtime.manifest > runtime/manifest.schema.json"
    )
    jsonschema.validate(json.loads((tiny_bundle / "manifest.json").read_text()), published)
