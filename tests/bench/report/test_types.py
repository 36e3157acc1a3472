"""The report as JSON: its schema, its way to the disk, and back."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import jsonschema
import msgspec
import pytest
from bench_examples import example_report

from vla_edge.bench.report import file
from vla_edge.bench.report.codec import decode, encode
from vla_edge.bench.report.types import Report, json_schema
from vla_edge.runtime.errors import InputError


def published_schema() -> dict:
    return json.loads(resources.files("vla_edge.bench.report").joinpath("report.schema.json").read_text())


def test_the_published_schema_is_the_one_of_the_types() -> None:
    of_types = json.loads(json.dumps(json_schema()))
    assert published_schema() == of_types, (
        "run: python -m vla_edge.bench.report.types > bench/report/report.schema.json"
    )


def test_the_published_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(published_schema())


def test_a_report_fits_the_published_schema() -> None:
    written = json.loads(encode(example_report()))
    jsonschema.Draft202012Validator(published_schema()).validate(written)


@pytest.mark.parametrize("field", ["schema_version", "machine", "bundles"])
def test_the_published_schema_refuses_a_report_without(field: str) -> None:
    written = json.loads(encode(example_report()))
    del written[field]
    with pytest.raises(jsonschema.ValidationError, match=field):
        jsonschema.Draft202012Validator(published_schema()).validate(written)


def test_a_report_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    file.write(example_report(), path)
    assert decode(path.read_bytes(), str(path)) == example_report()


def test_every_raw_sample_is_kept() -> None:
    written = json.loads(encode(example_report()))
    assert written["bundles"][0]["rows"][0]["samples"]["step_ms"] == [40.0, 42.0]


def test_another_schema_version_is_refused_by_name() -> None:
    data = encode(example_report()).replace(b'"schema_version": 3', b'"schema_version": 9')
    with pytest.raises(InputError, match=r"old\.json is not a bench report: .*schema_version"):
        decode(data, "old.json")


def test_a_failed_write_leaves_the_old_report_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")

    def interrupted(report: Report) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(file, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        file.write(example_report(), path)
    assert [child.name for child in tmp_path.iterdir()] == ["report.json"]
    assert path.read_text() == "old"


def test_a_path_that_cannot_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is a folder"):
        file.check_writable(tmp_path)
    with pytest.raises(InputError, match="no writable folder"):
        file.check_writable(tmp_path / "missing" / "report.json")
    file.check_writable(tmp_path / "report.json")


def test_json_has_no_infinity() -> None:
    assert b"null" in msgspec.json.encode(float("inf"))
