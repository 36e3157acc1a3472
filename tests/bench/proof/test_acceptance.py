"""Steps are run once, kept, and told in one table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from vla_edge.bench.proof import acceptance
from vla_edge.bench.proof.acceptance import Step, bench_step, figures, run_steps, table
from vla_edge.runtime.command.console import run_command

LATENCY = {"p50_ms": 3.1, "p99_ms": 3.2}
RECORD = {
    "parts": [{"build": {"seconds": 47.5, "peak_host_mib": 14700}}],
    "verification": {
        "samples": [{"max_abs": 0.01}, {"max_abs": 0.02}],
        "checks": [{"stage": "action", "unit": "m/s"}],
    },
}
SOAK = {
    "engine": LATENCY,
    "run": LATENCY,
    "act": {"p50_ms": 3.2, "p99_ms": 3.3},
    "act_in_place": {"p50_ms": 3.15, "p99_ms": 3.3},
    "load_ms": {"deserialise": 400.4},
    "calls": 10,
    "differing": 0,
    "host_growth_kib": 0,
    "device_growth_kib": 0,
    "device": {"context": 500.0, "loaded": 3576.0, "soaked": 3576.0, "parts": {"weights": 2946.0}},
}


def found(result: object) -> dict[str, object]:
    return {"seconds": 88.0, "exit_code": 0, "result": result}


def test_every_result_has_its_line() -> None:
    results = {
        "export and build": found(RECORD),
        "soak": found(SOAK),
        "refusals": found({"truncated": "is truncated", "other SM": ""}),
        "stages": found({"vision": {"relative_l2": 0.0027}}),
    }
    told = dict(figures(results))
    assert told["action error of the plan, m/s"] == "0.02"
    assert told["over the engine, p50, ms: copied, in place"] == "0.100, 0.050"
    assert told["engine alone p50 / p99, ms"] == "3.100 / 3.200"
    assert told["plan with fault: other SM"] == "NOT REFUSED"
    assert told["error of stage vision, relative L2"] == "0.0027"
    assert told["of it"] == "weights 2946"


def test_a_figure_that_one_checkpoint_lacks_is_a_dash() -> None:
    text = table({"pure": {"soak": found(SOAK)}, "hybrid": {}})
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "| | pure | hybrid |"
    assert "| calls; of them differing | 10; 0 | - |" in lines


def test_one_bench_is_given_every_checkpoint(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "engines" / f"{name}-fp16").mkdir(parents=True)
    step = bench_step([Path("a.pth"), Path("b.pth"), Path("failed.pth")], tmp_path, 2.0)
    words = " ".join(step.arguments)
    assert "--checkpoint a.pth --checkpoint b.pth" in words
    assert "failed.pth" not in words
    frames = Path(step.arguments[step.arguments.index("--images") + 1])
    assert (frames / "coffee.jpg").is_file()
    assert step.read("what the bench printed") == "what the bench printed"


def test_a_result_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    """The first run is cut short by a step that fails, the second goes on from there."""
    version = Step("version", ("vla_edge.runtime.run.cli", "--version"), str.strip)
    refused = Step("inspect", ("vla_edge.export.inspect.cli", str(tmp_path / "none.pth")))
    first = run_steps("policy", (version, refused), tmp_path)
    assert "version" in first["version"]["result"]
    assert first["inspect"]["exit_code"] == 2
    assert "result" not in first["inspect"]
    kept = tmp_path / "policy.acceptance.json"
    kept.write_text(json.dumps({**first, "version": found("from before")}))
    assert run_steps("policy", (version, refused), tmp_path)["version"]["result"] == "from before"


def test_the_kept_report_of_the_bench_is_printed_above_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "policy.pth"
    checkpoint.touch()
    names = [step.name for step in acceptance.steps(checkpoint, tmp_path, 10)]
    kept = {
        **{name: found({}) for name in names},
        "export and build": found(RECORD),
        "build again": found(RECORD),
    }
    kept |= {"soak": found(SOAK), "plain enqueue": found(SOAK)}
    (tmp_path / "policy.acceptance.json").write_text(json.dumps(kept))
    (tmp_path / "all.acceptance.json").write_text(json.dumps({"bench": found("TensorRT answers in 3.1 ms")}))
    monkeypatch.setattr(acceptance, "check_device", lambda device: None)
    monkeypatch.setattr(sys, "argv", ["acceptance", str(checkpoint), "-o", str(tmp_path)])
    with pytest.raises(SystemExit) as left:
        run_command(acceptance.command)
    told = capsys.readouterr().out
    assert not left.value.code
    assert told.startswith("TensorRT answers in 3.1 ms\n")
    assert "| action error of the plan, m/s" in told


def test_a_missing_checkpoint_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["acceptance", str(tmp_path / "none.pth")])
    with pytest.raises(SystemExit) as left:
        run_command(acceptance.command)
    assert left.value.code == 2
    assert "no checkpoint" in capsys.readouterr().err


def test_two_checkpoints_of_one_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Results are kept by name: the second would show the first one's figures."""
    paths = [tmp_path / folder / "a.pth" for folder in "xy"]
    for path in paths:
        path.parent.mkdir()
        path.touch()
    monkeypatch.setattr(sys, "argv", ["acceptance", *map(str, paths)])
    with pytest.raises(SystemExit) as left:
        run_command(acceptance.command)
    assert left.value.code == 2
    assert "two checkpoints have the same name" in capsys.readouterr().err


def test_a_step_that_leaves_less_than_it_should_has_no_result(tmp_path: Path) -> None:
    def read(printed: str) -> object:
        return json.loads("not JSON")

    found = run_steps("policy", (Step("version", ("vla_edge.runtime.run.cli", "--version"), read),), tmp_path)
    assert found["version"]["exit_code"] == 0
    assert "result" not in found["version"]
