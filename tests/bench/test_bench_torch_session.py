"""The PyTorch policy behind the session protocol."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from vla_edge.bench import backends
from vla_edge.bench.jobs import Job
from vla_edge.bench.parity import ActionErrors
from vla_edge.bench.report import Parity
from vla_edge.bench.workload import PolicyStep
from vla_edge.runtime.errors import EngineError
from vla_edge.runtime.manifest import MANIFEST_NAME, decode, encode


def parity_of(job: Job) -> Parity:
    loaded = backends.load(job)
    golden = loaded.golden()
    step = PolicyStep(loaded.session, golden, loaded.state)
    errors = ActionErrors(golden["actions"], loaded.action_scale)
    for _ in range(len(step)):
        step()
    step.check(errors)
    loaded.close()
    return errors.summary()


@pytest.fixture(scope="session")
def carried_bundle(checkpoint_of: Callable[..., Path], tmp_path_factory) -> Path:
    """A policy that carries its LSTM state, batch 2."""
    from vla_edge.export.pipeline import ExportOptions, export_bundle

    options = ExportOptions(
        checkpoint_of("pure", "none"),
        tmp_path_factory.mktemp("carried"),
        ("fp32",),
        settings={"lstm": "carried"},
        batch=2,
    )
    return export_bundle(options)[0].folder


@pytest.fixture
def torch_job(job: Job, checkpoint_of: Callable[..., Path]) -> Job:
    checkpoint = str(checkpoint_of("pure", "none"))
    return msgspec.structs.replace(job, backend="torch-fp32", checkpoint=checkpoint)


def test_fp32_gives_the_golden_actions(torch_job: Job) -> None:
    found = parity_of(torch_job)
    assert (found.samples, found.finite) == (10, True)
    assert found.max_abs_mps < 1e-4


def test_fp16_computes_in_half(torch_job: Job) -> None:
    loaded = backends.load(msgspec.structs.replace(torch_job, backend="torch-fp16"))
    assert (loaded.session.identity.precision, loaded.session.identity.compute) == ("fp16", "fp16")
    found = parity_of(msgspec.structs.replace(torch_job, backend="torch-fp16"))
    assert found.max_abs_mps is None or found.max_abs_mps > 1e-4


@pytest.mark.parametrize("backend", ["torch-fp32", "onnxruntime"])
def test_carried_state_and_batches_are_fed_to_both_kinds(
    torch_job: Job, carried_bundle: Path, backend: str
) -> None:
    found = parity_of(msgspec.structs.replace(torch_job, backend=backend, bundle=str(carried_bundle)))
    assert found.samples == 10
    assert found.max_abs_mps < 1e-3


def test_a_batch_has_no_act_and_says_so(job: Job, carried_bundle: Path) -> None:
    loaded = backends.load(msgspec.structs.replace(job, bundle=str(carried_bundle)))
    assert loaded.act is None
    assert loaded.notes == ("no act column: Policy.act takes one frame, this bundle 2",)


def test_a_step_copies_inputs_in_and_actions_out(torch_job: Job) -> None:
    loaded = backends.load(torch_job)
    golden = loaded.golden()
    step = PolicyStep(loaded.session, golden, loaded.state)
    step()
    loaded.session.outputs["actions"][:] = 7.0
    errors = ActionErrors(golden["actions"], loaded.action_scale)
    step.check(errors)
    assert errors.summary().max_abs_mps < 1e-4
    np.testing.assert_array_equal(loaded.session.inputs["pixel_values"][0], golden["pixel_values"][0])


def test_a_run_without_a_gpu_says_so(torch_job: Job, monkeypatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match="PyTorch sees no GPU"):
        backends.load(msgspec.structs.replace(torch_job, device="cuda"))


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["torch-fp32", "torch-fp16"])
def test_a_gpu_run_times_every_forward_pass_apart_from_the_copies(torch_job: Job, backend: str) -> None:
    loaded = backends.load(msgspec.structs.replace(torch_job, backend=backend, device="cuda"))
    step = PolicyStep(loaded.session, loaded.golden(), loaded.state)
    for _ in range(12):
        step()
    assert loaded.session.identity.device.startswith("cuda:0 ")
    assert len(loaded.device_ms(10)) == 10
    assert all(elapsed_ms > 0 for elapsed_ms in loaded.device_ms(10))
    assert loaded.torch_allocator_peak_mib() > 1
    errors = ActionErrors(loaded.golden()["actions"], loaded.action_scale)
    step.check(errors)
    assert backend == "torch-fp16" or errors.summary().max_abs_mps < 1e-3


def test_an_action_that_a_policy_would_hold_is_computed_in_every_timed_call(
    job: Job, bundle: Path, tmp_path
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "policy"))
    manifest = decode((copy / MANIFEST_NAME).read_bytes())
    holding = msgspec.structs.replace(
        manifest, runtime=msgspec.structs.replace(manifest.runtime, frame="first")
    )
    (copy / MANIFEST_NAME).write_bytes(encode(holding))
    act = backends.load(msgspec.structs.replace(job, bundle=str(copy))).act
    assert [act().held for _ in range(3)] == [False, False, False]
