"""Each planted fault is one that is refused before anything is deserialised, and the bundle stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from plan_bundles import make_plan, small_bundle

from vla_edge.bench.proof.refusals import FAULTS, planted, refusals
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.plan import find_plan, open_part
from vla_edge.runtime.engines.tensorrt.record import Machine
from vla_edge.runtime.errors import EngineError, InputError

HERE = Machine(backend="tensorrt", version="10.6.0", sm=87, gpu="Fake GPU", driver="CUDA 12.6")
WORDS = {
    "truncated": "is truncated",
    "one bit flipped": "was changed since it was built",
    "other SM": "was built for SM 5.3",
    "other TensorRT": "was built by TensorRT 10.0.1",
}


def load(folder: Path) -> bytes:
    plan = find_plan(Bundle.open(folder, "size"), HERE)
    with open_part(plan, plan.record.parts[0]) as image:
        return bytes(image)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_refused_in_words(tmp_path: Path, fault: str) -> None:
    bundle = small_bundle(tmp_path / "policy")
    plan = make_plan(bundle)
    before = plan.read_bytes()
    with (
        planted(bundle.folder, FAULTS[fault]) as copy,
        pytest.raises(EngineError, match=WORDS[fault]),
    ):
        load(copy)
    assert load(bundle.folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


def test_a_bundle_without_a_plan_is_told_how_to_get_one(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "policy")
    with pytest.raises(InputError, match="has no plan"):
        refusals(bundle.folder)
