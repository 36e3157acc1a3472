"""The golden samples of a bundle, held against its gates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from plan_bundles import SAMPLES, WIDTH, tiny_manifest

from vla_edge.export.build.progress import Silent
from vla_edge.export.build.verify import judge, run_samples, sample_inputs

MANIFEST = tiny_manifest([])


class Samples:
    """An engine that gives the golden actions plus an error."""

    def __init__(self, error: float = 0.0) -> None:
        rng = np.random.default_rng(0)
        self.golden: dict[str, np.ndarray] = {"names": np.array([f"s{at}" for at in range(SAMPLES)])}
        for spec in MANIFEST.inputs:
            self.golden[spec.name] = rng.integers(0, 9, (SAMPLES, *spec.shape[1:])).astype(spec.dtype)
        self.golden["actions"] = rng.uniform(0.5, 1, (SAMPLES, 1, 2)).astype(np.float32)
        self.golden["stage_text"] = rng.uniform(0.5, 1, (SAMPLES, WIDTH)).astype(np.float32)
        self.inputs = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in MANIFEST.inputs}
        self.outputs = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in MANIFEST.outputs}
        self.error = error
        self.fed: list[int] = []

    def run(self) -> None:
        at = len(self.fed)
        self.fed.append(int(self.inputs["input_ids"].sum()))
        self.outputs["actions"][...] = self.golden["actions"][at] + self.error
        if "text" in self.outputs:
            self.outputs["text"][...] = self.golden["stage_text"][at]

    def verification(self) -> Any:
        measures = run_samples(self.inputs, self.outputs, self.run, self.golden, MANIFEST, Silent())
        return judge(MANIFEST.parity.gates, self.golden["names"].tolist(), measures, "an engine", "m/s")


def test_exact_actions_pass_and_every_sample_is_fed() -> None:
    samples = Samples()
    result = samples.verification()
    assert result.passed
    assert samples.fed == [int(row.sum()) for row in samples.golden["input_ids"]]
    assert [sample.name for sample in result.samples] == [f"s{at}" for at in range(SAMPLES)]
    assert result.note == f"action 0 m/s, gate 0.02 m/s ({SAMPLES} samples)."


def test_errors_are_in_metres_per_second_after_the_scale() -> None:
    result = Samples(error=0.009).verification()  # scale 2: 0.018 m/s, gate 0.02
    assert result.passed
    assert result.samples[0].max_abs == pytest.approx(0.018, abs=1e-5)
    result = Samples(error=0.011).verification()
    assert not result.passed
    assert "action 0.022 m/s, gate 0.02 m/s" in result.note


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_nan_misses_every_gate(error: float) -> None:
    result = Samples(error=error).verification()
    assert not result.passed
    assert result.samples[0].max_abs is None
    assert "NaN or infinite" in result.note


def test_a_visible_stage_is_held_against_its_gate() -> None:
    samples = Samples()
    samples.outputs["text"] = np.zeros((1, WIDTH), np.float32)
    result = samples.verification()
    assert [(check.stage, check.passed) for check in result.checks] == [("text", True), ("action", True)]


def test_without_a_gate_for_the_action_nothing_passes() -> None:
    samples = Samples()
    measures = run_samples(samples.inputs, samples.outputs, samples.run, samples.golden, MANIFEST, Silent())
    result = judge([], samples.golden["names"].tolist(), measures, "", "m/s")
    assert not result.passed
    assert "no gate for the action" in result.note


def test_carried_state_has_its_batch_in_the_second_place() -> None:
    inputs = [
        {"name": "h_in", "dtype": "float32", "shape": [4, 2, 8], "role": "state"},
        {"name": "x", "dtype": "float32", "shape": [2, 3], "role": "other"},
    ]
    outputs = [{"name": "h_out", "dtype": "float32", "shape": [4, 2, 8], "role": "state"}]
    manifest = tiny_manifest(
        [], inputs=inputs, outputs=outputs, runtime={"frame": "current", "state": [["h_in", "h_out"]]}
    )
    golden = {"h_in": np.arange(32, dtype=np.float32).reshape(1, 4, 8), "x": np.ones((1, 3), np.float32)}
    fed = sample_inputs(manifest, golden, 0)
    assert fed["h_in"].shape == (4, 2, 8)
    assert np.array_equal(fed["h_in"][:, 1], golden["h_in"][0])
    assert fed["x"].shape == (2, 3)
