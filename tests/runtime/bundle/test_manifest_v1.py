"""Manifests that version 1 of the schema wrote still load, and say what they said; kept/ holds real ones."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_before import as_version_1

from vla_edge.runtime.bundle.manifest import encode
from vla_edge.runtime.bundle.manifest_file import decode
from vla_edge.runtime.errors import BundleError

KEPT = sorted((Path(__file__).parent / "kept").glob("*.manifest.json"))
CARRIED = next(path for path in KEPT if "carried" in path.name)


def test_each_layout_precision_and_variant_is_kept() -> None:
    assert [path.name.removesuffix(".manifest.json") for path in KEPT] == [
        "hybrid-a-carried-fp16",
        "hybrid-a-fp16",
        "hybrid-b-fp16",
        "hybrid-c-fp16",
        "pure-b2-fp16",
        "pure-fp16",
        "pure-fp32",
    ]


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.name)
def test_a_kept_manifest_loads_and_nothing_that_it_said_is_lost(path: Path) -> None:
    manifest = decode(path.read_bytes(), path.name)
    assert as_version_1(manifest) == json.loads(path.read_bytes())
    assert decode(encode(manifest)) == manifest


def test_what_version_1_left_to_names_is_said() -> None:
    manifest = decode(CARRIED.read_bytes())
    assert manifest.schema_version == 2
    assert {tensor.name: tensor.role for tensor in manifest.inputs} == {
        "pixel_values": "pixels",
        "input_ids": "token_ids",
        "attention_mask": "attention_mask",
        "h_in": "state",
        "c_in": "state",
    }
    assert {tensor.name: tensor.role for tensor in manifest.outputs} == {
        "actions": "actions",
        "h_out": "state",
        "c_out": "state",
    }
    assert manifest.action.units == ("m/s", "m/s")
    assert manifest.parity.gates[-1].metric == "max_abs"
    assert (manifest.architecture, manifest.cuts) == (None, ())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(cuts=[]), "unknown field `cuts`"),
        (lambda m: m.update(architecture=None), "unknown field `architecture`"),
        (lambda m: m.update(prompt=None), "at `$.prompt`"),
        (lambda m: m.update(instructions=[]), "at `$.instructions`"),
        (lambda m: m.pop("default_instruction"), "missing required field `default_instruction`"),
        (lambda m: m["inputs"][0].update(role="pixels"), "unknown field `role`"),
        (lambda m: m["action"].update(unit="rad"), "at `$.action.unit`"),
        (lambda m: m["action"].update(units=["m/s"] * 2), "unknown field `units`"),
        (lambda m: m["source"].update(layout="octo"), "at `$.source.layout`"),
        (lambda m: m["stages"][0].update(name="encoder"), "at `$.stages[0].name`"),
        (lambda m: m["parity"]["gates"][0].update(metric="max_abs"), "at `$.parity.gates[0].metric`"),
        (lambda m: m["parity"].update(max_abs=0.0), "unknown field `max_abs`"),
        (lambda m: m["outputs"][-1].update(name="velocities"), "0 of its outputs are the actions"),
        (lambda m: m["inputs"][0].update(dtype="int32"), "has to be float32 of rank 4"),
        (lambda m: m["runtime"].update(state=[]), "of several batch sizes"),
        (lambda m: m.update(schema_version=2), "missing required field"),
        (lambda m: m.update(schema_version=True), "at `$.schema_version`"),
        (lambda m: m.update(schema_version=0), "has schema version 0; this runtime reads versions 1 to 2"),
    ],
)
def test_version_1_is_checked_as_strictly_as_ever(
    change: Callable[[dict[str, Any]], object], words: str
) -> None:
    fields = json.loads(CARRIED.read_bytes())
    change(fields)
    with pytest.raises(BundleError, match="manifest") as raised:
        decode(json.dumps(fields).encode())
    assert words in raised.value.problem


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_one_is_read_or_refused(data: st.DataObject) -> None:
    whole = CARRIED.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    piece = data.draw(st.binary(min_size=1, max_size=8))
    with contextlib.suppress(BundleError):
        decode(whole[:at] + piece + whole[at + len(piece) :])


def test_no_kept_file_tells_of_the_machine_that_wrote_it() -> None:
    for path in KEPT[0].parent.iterdir():
        texts = list(_texts(msgspec.json.decode(path.read_bytes())))
        assert not [text for text in texts if text.startswith("/")], path.name


def _texts(value: object) -> Any:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value
