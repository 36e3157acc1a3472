"""Reports of schema version 2, whose errors were all in m/s, are read as what they said."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bench_examples import full_report

from vla_edge.bench.report.codec import decode, encode
from vla_edge.runtime.errors import InputError

PARITY = {"max_abs": "max_abs_mps"}
AGREEMENT = {"max_abs": "max_mps", "mean_abs": "mean_mps", "errors": "error_mps"}


def as_version_2() -> dict[str, Any]:
    """A full report as it would have been written."""
    fields = json.loads(encode(full_report()))
    fields["schema_version"] = 2
    rows = [row for bundle in fields["bundles"] for row in bundle["rows"]]
    rows += [item["row"] for item in fields["standin"]["rows"]]
    for row in rows:
        for key, names in (("parity", PARITY), ("agreement", AGREEMENT)):
            if row[key]:
                assert row[key].pop("unit") == "m/s"
                row[key] = {names.get(name, name): value for name, value in row[key].items()}
    return fields


def test_nothing_of_one_is_lost() -> None:
    assert decode(json.dumps(as_version_2()).encode(), "old.json") == full_report()


@pytest.mark.parametrize("value", [None, 3, [], [3], {"rows": 3}, {"rows": [3]}, {"rows": [{"parity": 3}]}])
@pytest.mark.parametrize("part", ["bundles", "standin"])
def test_what_it_never_was_is_refused_in_words(part: str, value: object) -> None:
    fields = as_version_2()
    fields[part] = [value] if part == "bundles" else value
    if part == "standin" and value is None:
        assert decode(json.dumps(fields).encode(), "old.json").standin is None
        return
    with pytest.raises(InputError, match=r"old\.json is not a bench report"):
        decode(json.dumps(fields).encode(), "old.json")


def test_a_text_that_names_a_field_stays_as_it_is() -> None:
    fields = as_version_2()
    fields["tool"] = text = '"max_abs_mps": 3, "unit": "rad", "schema_version": 2'
    assert decode(json.dumps(fields).encode(), "old.json").tool == text


def test_a_field_of_today_in_one_is_refused() -> None:
    fields = as_version_2()
    row = next(row for row in fields["bundles"][0]["rows"] if row["parity"])
    row["parity"]["unit"] = "rad"
    with pytest.raises(InputError, match="unknown field `unit of another version`"):
        decode(json.dumps(fields).encode(), "old.json")
