"""The stand-in is exactly what was timed, and every backend computes the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vla_edge.bench.backends.torch_session import TORCH_MODES
from vla_edge.bench.measure.parity import ActionErrors, missed_gate
from vla_edge.bench.measure.timing import Budget
from vla_edge.bench.measure.workload import PolicyStep
from vla_edge.bench.options.options import Options
from vla_edge.bench.standin.load import import_libraries, load, standin_job
from vla_edge.bench.standin.model import (
    BACKENDS,
    GATES,
    SAMPLES,
    WEIGHTS_ORIGIN,
    Standin,
    golden,
    reference,
    standin_backends,
    weight,
)
from vla_edge.runtime.errors import EngineError

SMALL = Standin(64)
SCRATCH = Path("/no plan is built on a CPU")
CPU_BACKENDS = standin_backends("cpu")


def test_it_has_the_parameters_of_what_was_timed() -> None:
    standin = Standin()
    assert standin.pixels == 224 * 224 * 3
    assert standin.parameters_of() == 438_997_250
    assert standin.parameters_of("embed") == 150_528 * 2048 + 2048
    assert standin.parameters_of("rnn") == (2048 * 4096 + 4096**2 + 2 * 4096) + 3 * (2 * 4096**2 + 2 * 4096)
    assert standin.head == (4096, 1024, 512, 256, 2)
    assert standin.parameters_of("head") == sum(
        width * out + out for width, out in ((4096, 1024), (1024, 512), (512, 256), (256, 2))
    )


def test_pytorch_builds_the_same_shapes_at_full_size() -> None:
    import torch

    from vla_edge.bench.standin.module import StandinModule

    with torch.device("meta"):
        module = StandinModule(Standin())
    assert {name: tuple(value.shape) for name, value in module.state_dict().items()} == Standin().shapes
    assert sum(parameter.numel() for parameter in module.parameters()) == 438_997_250
    assert (module.rnn.mode, module.rnn.num_layers, module.rnn.batch_first) == ("RNN_TANH", 4, True)
    assert [type(part).__name__ for part in module.head] == ["Linear", "ReLU"] * 3 + ["Linear"]


def test_weights_are_seeded_and_differ_by_name() -> None:
    first = weight(SMALL, "rnn.weight_hh_l1")
    np.testing.assert_array_equal(first, weight(SMALL, "rnn.weight_hh_l1"))
    assert first.dtype == np.float32
    assert not np.array_equal(first, weight(SMALL, "rnn.weight_hh_l2"))


def test_a_weight_of_several_blocks_repeats_nothing_and_has_the_spread_it_should() -> None:
    values = weight(Standin(8), "embed.weight")
    assert values.size > 1 << 22
    assert abs(values.mean()) < 1e-4
    assert values.std() * np.sqrt(values.shape[1]) == pytest.approx(1.0, rel=0.01)


def test_signals_stay_alive_from_pixels_to_actions() -> None:
    """Else an error in an early layer would not show, and parity would prove nothing."""
    pixels = golden(SMALL)["pixels"]
    actions = reference(SMALL, pixels)
    assert actions.shape == (SAMPLES, 1, 2)
    assert actions.std(axis=0).min() > 0.05
    assert np.abs(reference(SMALL, pixels * 1.1) - actions).max() > 0.005


@pytest.mark.parametrize("backend", [*CPU_BACKENDS, "standin:torch-fp16"])
def test_a_backend_gives_the_actions_of_the_numpy_forward_pass(backend: str) -> None:
    loaded = load(standin_job(backend, "owner", Options(device="cpu", threads=1, seconds=1), SCRATCH), SMALL)
    samples = loaded.golden()
    step = PolicyStep(loaded.session, samples, loaded.state)
    errors = ActionErrors(samples["actions"], loaded.action_scale, loaded.action_unit)
    for _ in range(2 * len(step)):
        step()
    step.check(errors)
    found = errors.summary()
    assert found.samples == SAMPLES
    assert missed_gate(found, GATES[BACKENDS[backend].precision]) == ""
    assert loaded.session.identity.precision == BACKENDS[backend].precision
    assert loaded.session.identity.bundle == "standin [107750 random weights]"
    loaded.close()


def test_a_wrong_weight_misses_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first layer of the RNN, far from the actions."""
    from vla_edge.bench.standin import module as standin_torch

    def wrong(standin: Standin, name: str) -> np.ndarray:
        right = weight(standin, name)
        return right[::-1].copy() if name == "rnn.weight_ih_l0" else right

    monkeypatch.setattr(standin_torch, "weight", wrong)
    loaded = load(
        standin_job("standin:torch-fp16", "owner", Options(device="cpu", threads=1, seconds=1), SCRATCH),
        SMALL,
    )
    samples = loaded.golden()
    step = PolicyStep(loaded.session, samples, loaded.state)
    errors = ActionErrors(samples["actions"], loaded.action_scale, loaded.action_unit)
    step()
    step.check(errors)
    assert "0.03 allowed" in missed_gate(errors.summary(), GATES["fp16"])


def test_the_owners_protocol_is_three_warm_ups_and_thirty_runs() -> None:
    job = standin_job("standin:torch-fp32", "owner", Options(device="cpu", threads=2, seconds=8), SCRATCH)
    asked = job.options
    assert (job.bundle, job.checkpoint, asked.warmup, asked.runs) == ("standin", None, 3, 30)
    budget = Budget(asked.runs, asked.seconds, asked.warmup)
    assert not budget.is_spent(29, 1e9)
    assert budget.is_spent(30, 0)
    bench = standin_job("standin:torch-fp32", "bench", Options(device="cpu", threads=2, seconds=8), SCRATCH)
    assert (bench.options.warmup, bench.options.runs) == (None, None)


def test_what_a_device_can_run_is_named() -> None:
    assert standin_backends("cpu", tensorrt=True) == ("standin:torch-fp32", "standin:onnxruntime-fp32")
    torch_names = ("standin:torch-fp32", "standin:torch-fp16", "standin:torch-fp16-graph")
    assert standin_backends("cuda") == torch_names
    assert standin_backends("cuda", tensorrt=True) == (
        *torch_names,
        "standin:tensorrt-fp32",
        "standin:tensorrt-fp16",
    )
    modes = [name.partition(":")[2] for name in torch_names]
    assert [TORCH_MODES[mode].precision for mode in modes] == [
        BACKENDS[name].precision for name in torch_names
    ]
    assert "no policy" in WEIGHTS_ORIGIN


def test_a_gpu_backend_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match="PyTorch sees no GPU"):
        load(
            standin_job("standin:torch-fp32", "owner", Options(device="cuda", threads=1, seconds=1), SCRATCH),
            SMALL,
        )


def test_reading_its_numbers_imports_no_engine() -> None:
    code = (
        "import sys, vla_edge.bench.standin.summary, vla_edge.bench.standin.load;"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'tensorrt'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_imports_are_of_the_engine_asked_for() -> None:
    for backend in ("standin:torch-fp32", "standin:onnxruntime-fp32"):
        import_libraries(standin_job(backend, "bench", Options(device="cpu", threads=1), SCRATCH))
    assert {"torch", "onnxruntime"} <= set(sys.modules)


def test_golden_samples_have_the_zero_state_that_engines_take() -> None:
    samples = golden(SMALL)
    assert {name: array.shape for name, array in samples.items()} == {
        "pixels": (SAMPLES, 1, 2352),
        "state": (SAMPLES, 4, 64),
        "actions": (SAMPLES, 1, 2),
    }
    assert not samples["state"].any()


@pytest.mark.gpu
@pytest.mark.parametrize("backend", standin_backends("cuda", tensorrt=True))
def test_a_gpu_backend_gives_the_actions_of_the_numpy_forward_pass(backend: str, tmp_path: Path) -> None:
    loaded = load(
        standin_job(backend, "owner", Options(device="cuda", threads=1, seconds=1), tmp_path), Standin(8)
    )
    samples = loaded.golden()
    step = PolicyStep(loaded.session, samples, loaded.state)
    errors = ActionErrors(samples["actions"], loaded.action_scale, loaded.action_unit)
    for _ in range(len(step)):
        step()
    step.check(errors)
    assert missed_gate(errors.summary(), GATES[BACKENDS[backend].precision]) == ""
    assert len(loaded.device_ms(3)) == 3
    loaded.close()


def test_the_protocol_of_the_published_figures_is_fixed_and_ours_is_what_was_asked_for() -> None:
    asked = Options(device="cpu", threads=1, seconds=1.0, runs=7, warmup=2)
    owner = standin_job("standin:torch-fp32", "owner", asked, SCRATCH).options
    ours = standin_job("standin:torch-fp32", "bench", asked, SCRATCH).options
    assert (owner.warmup, owner.runs) == (3, 30)
    assert (ours.warmup, ours.runs) == (2, 7)
