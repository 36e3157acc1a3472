"""The PyTorch policy behind the session protocol."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from vla_edge.bench.backends import load as backends
from vla_edge.bench.backends.torch_session import TORCH_MODES, Signature, TorchMode, TorchSession
from vla_edge.bench.measure.jobs import Job
from vla_edge.bench.measure.parity import ActionErrors
from vla_edge.bench.measure.workload import PolicyStep
from vla_edge.bench.report.types import Parity
from vla_edge.runtime.bundle.manifest import MANIFEST_NAME, TensorSpec, encode
from vla_edge.runtime.bundle.manifest_file import decode
from vla_edge.runtime.errors import EngineError


def parity_of(job: Job) -> Parity:
    loaded = backends.load(job)
    golden = loaded.golden()
    step = PolicyStep(loaded.session, golden, loaded.state)
    errors = ActionErrors(golden["actions"], loaded.action_scale, loaded.action_unit)
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


def on_gpu(job: Job) -> Job:
    return msgspec.structs.replace(job, options=msgspec.structs.replace(job.options, device="cuda"))


def test_fp32_gives_the_golden_actions(torch_job: Job) -> None:
    found = parity_of(torch_job)
    assert (found.samples, found.finite) == (10, True)
    assert found.max_abs < 1e-4


def test_fp16_computes_in_half(torch_job: Job) -> None:
    loaded = backends.load(msgspec.structs.replace(torch_job, backend="torch-fp16"))
    assert (loaded.session.identity.precision, loaded.session.identity.compute) == ("fp16", "fp16")
    found = parity_of(msgspec.structs.replace(torch_job, backend="torch-fp16"))
    assert found.max_abs is None or found.max_abs > 1e-4


@pytest.mark.parametrize("backend", ["torch-fp32", "onnxruntime"])
def test_carried_state_and_batches_are_fed_to_both_kinds(
    torch_job: Job, carried_bundle: Path, backend: str
) -> None:
    found = parity_of(msgspec.structs.replace(torch_job, backend=backend, bundle=str(carried_bundle)))
    assert found.samples == 10
    assert found.max_abs < 1e-3


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
    errors = ActionErrors(golden["actions"], loaded.action_scale, loaded.action_unit)
    step.check(errors)
    assert errors.summary().max_abs < 1e-4
    np.testing.assert_array_equal(loaded.session.inputs["pixel_values"][0], golden["pixel_values"][0])


def test_a_run_without_a_gpu_says_so(torch_job: Job, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match="PyTorch sees no GPU"):
        backends.load(on_gpu(torch_job))


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["torch-fp32", "torch-fp16"])
def test_a_gpu_run_times_every_forward_pass_apart_from_the_copies(torch_job: Job, backend: str) -> None:
    loaded = backends.load(on_gpu(msgspec.structs.replace(torch_job, backend=backend)))
    step = PolicyStep(loaded.session, loaded.golden(), loaded.state)
    for _ in range(12):
        step()
    assert loaded.session.identity.device.startswith("cuda:0 ")
    assert len(loaded.device_ms(10)) == 10
    assert all(elapsed_ms > 0 for elapsed_ms in loaded.device_ms(10))
    assert loaded.torch_allocator_peak_mib() > 1
    errors = ActionErrors(loaded.golden()["actions"], loaded.action_scale, loaded.action_unit)
    step.check(errors)
    assert backend == "torch-fp16" or errors.summary().max_abs < 1e-3


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


# --- the modes


class Recurrent(nn.Module):
    """Small, and with what Dynamo stumbles over in the policies: an LSTM within `inference_mode`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.into = nn.Linear(16, 24)
        self.rnn = nn.LSTM(24, 8, 2, batch_first=True)

    @torch.inference_mode()
    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"actions": self.rnn(torch.relu(self.into(pixels)))[0]}


SIGNATURE = Signature(
    (TensorSpec(name="pixels", dtype="float32", shape=(1, 3, 16)),),
    (TensorSpec(name="actions", dtype="float32", shape=(1, 3, 8)),),
    "small [0]",
)
PIXELS = np.random.default_rng(0).standard_normal((2, 1, 3, 16)).astype(np.float32)


def actions_of(session: TorchSession, at: int) -> np.ndarray:
    session.inputs["pixels"][...] = PIXELS[at]
    session.run()
    return session.outputs["actions"].copy()


@pytest.fixture
def compiler_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, so that a compiler really runs; without its half a minute of trying vector instructions."""
    import torch._inductor.config as inductor

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    torch._dynamo.reset()
    with inductor.patch({"cpp.vec_isa_ok": False, "cpp_cache_precompile_headers": False}):
        yield tmp_path / "inductor"


def test_every_way_to_run_the_policy_has_a_name() -> None:
    assert list(TORCH_MODES) == [
        "torch-fp32",
        "torch-tf32",
        "torch-fp16",
        "torch-fp16-graph",
        "torch-compile",
        "torch-compile-reduce-overhead",
    ]
    assert TORCH_MODES["torch-compile"] == TorchMode("fp16", compile_mode="max-autotune")
    assert TORCH_MODES["torch-compile-reduce-overhead"].how == "torch.compile reduce-overhead"
    assert [name for name, mode in TORCH_MODES.items() if mode.needs_gpu] == [
        "torch-tf32",
        "torch-fp16-graph",
    ]
    assert [name for name, mode in TORCH_MODES.items() if mode.precision == "fp32"] == [
        "torch-fp32",
        "torch-tf32",
    ]


def test_a_compiled_module_is_one_graph_with_the_same_actions(compiler_cache: Path) -> None:
    from torch._dynamo.utils import counters

    eager = TorchSession(Recurrent().eval(), SIGNATURE, TORCH_MODES["torch-fp32"], "cpu")
    counters.clear()
    session = TorchSession(Recurrent().eval(), SIGNATURE, TorchMode("fp32", compile_mode="default"), "cpu")
    assert session.compile_s is None
    for at in (0, 1, 0):
        np.testing.assert_allclose(actions_of(session, at), actions_of(eager, at), atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1
    assert session.compile_s is not None
    assert session.compile_s > 0.1
    assert session.identity.provider == "torch.compile default"
    assert any(compiler_cache.rglob("*.so")), "the compiler wrote nothing where it was told to"
    assert not session.compiled_from_cache


def test_a_module_that_was_compiled_before_says_so(compiler_cache: Path) -> None:
    from torch._dynamo.utils import counters

    found = []
    for _ in range(2):
        torch._dynamo.reset()
        counters.clear()
        session = TorchSession(
            Recurrent().eval(), SIGNATURE, TorchMode("fp32", compile_mode="default"), "cpu"
        )
        session.run()
        found.append(session.compiled_from_cache)
    assert found == [False, True]


def test_a_compiler_that_is_not_there_is_named_with_its_hint(compiler_cache: Path) -> None:
    import torch._inductor.config as inductor

    session = TorchSession(Recurrent().eval(), SIGNATURE, TorchMode("fp32", compile_mode="default"), "cpu")
    with inductor.patch({"cpp.cxx": ("/no/such/compiler",)}), pytest.raises(EngineError) as caught:
        session.run()
    assert caught.value.problem.startswith("torch.compile in mode default failed: ")
    assert "compiler" in caught.value.problem.lower()
    assert "\n" not in caught.value.problem
    assert "g++" in caught.value.hint
    assert session.compile_s is None


def test_a_module_that_does_not_compile_whole_is_not_run_eagerly_instead(compiler_cache: Path) -> None:
    class Broken(Recurrent):
        def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
            torch._dynamo.graph_break()
            return super().forward(pixels)

    session = TorchSession(Broken().eval(), SIGNATURE, TorchMode("fp32", compile_mode="default"), "cpu")
    with pytest.raises(EngineError, match=r"torch\.compile in mode default failed"):
        session.run()


@pytest.mark.parametrize(("name", "what"), [("torch-tf32", "TF32"), ("torch-fp16-graph", "a CUDA graph")])
def test_what_only_a_gpu_can_do_says_so(name: str, what: str) -> None:
    with pytest.raises(EngineError, match=f"{what} needs a GPU, not cpu"):
        TorchSession(Recurrent().eval(), SIGNATURE, TORCH_MODES[name], "cpu")


def test_half_precision_takes_and_gives_single_precision_arrays() -> None:
    exact = actions_of(TorchSession(Recurrent().eval(), SIGNATURE, TORCH_MODES["torch-fp32"], "cpu"), 0)
    session = TorchSession(Recurrent().eval(), SIGNATURE, TORCH_MODES["torch-fp16"], "cpu")
    half = actions_of(session, 0)
    assert half.dtype == session.inputs["pixels"].dtype == np.float32
    assert 0 < np.abs(half - exact).max() < 0.01
    assert session.peak_allocated_mib() is None


def test_the_hosts_work_beside_a_step_is_done_once_and_its_error_comes_after_the_outputs() -> None:
    session = TorchSession(Recurrent().eval(), SIGNATURE, TORCH_MODES["torch-fp32"], "cpu")
    expected = actions_of(session, 0)
    session.outputs["actions"][...] = 7
    done: list[int] = []

    def work() -> None:
        done.append(1)
        raise ValueError("a dark frame")

    with pytest.raises(ValueError, match="a dark frame"):
        session.run(work)
    assert done == [1]
    np.testing.assert_array_equal(session.outputs["actions"], expected)


@pytest.mark.gpu
@pytest.mark.parametrize("name", list(TORCH_MODES))
def test_every_mode_on_a_gpu_gives_the_actions_of_the_cpu(name: str, compiler_cache: Path) -> None:
    exact = TorchSession(Recurrent().eval(), SIGNATURE, TORCH_MODES["torch-fp32"], "cpu")
    session = TorchSession(Recurrent().eval(), SIGNATURE, TORCH_MODES[name], "cuda")
    for at in (0, 1, 0, 1):
        assert np.abs(actions_of(session, at) - actions_of(exact, at)).max() < 0.01
    assert torch.backends.cuda.matmul.allow_tf32 == (name == "torch-tf32")
    assert session.identity.compute == {"torch-fp32": "fp32", "torch-tf32": "tf32"}.get(name, "fp16")
    assert len(session.device_ms) == len(session.queue_ms) == 4
    assert (session.compile_s is not None) == name.startswith("torch-compile")
    held, step_peak = session.held_mib, session.step_peak_mib()
    assert held is not None
    assert step_peak is not None
    assert 0 < held < step_peak
