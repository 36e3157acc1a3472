"""NVML's readings are of the GPU that CUDA runs on, whatever the order of the two."""

from __future__ import annotations

import logging

import pytest

from vla_edge.bench.watch import nvml as module
from vla_edge.bench.watch.nvml import find_gpu, open_nvml
from vla_edge.runtime.errors import EngineError

BUS_IDS = ("0000:1B:00.0", "0000:43:00.0")  # in NVML's order


class Nvml:
    class NVMLError(Exception):
        pass

    def nvmlDeviceGetHandleByPciBusId(self, bus_id: str) -> str:
        if bus_id not in BUS_IDS:
            raise self.NVMLError("Not Found")
        return f"handle {BUS_IDS.index(bus_id)}"


def driver_whose_devices_sit_at(*bus_ids: str) -> type:
    class Driver:
        def pci_bus_id(self, index: int) -> str:
            if index >= len(bus_ids):
                raise EngineError(f"There is no GPU {index}.", "Choose another.")
            return bus_ids[index]

    return Driver


def test_cuda_s_first_gpu_may_be_nvml_s_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LibCuda", driver_whose_devices_sit_at(BUS_IDS[1]))
    gpu = find_gpu(Nvml(), 0)
    assert gpu is not None
    assert gpu.handle == "handle 1"


@pytest.mark.parametrize(("index", "words"), [(0, "Not Found"), (1, "There is no GPU 1.")])
def test_a_gpu_that_one_of_them_does_not_know_is_not_read(
    index: int, words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LibCuda", driver_whose_devices_sit_at("0000:99:00.0"))
    with caplog.at_level(logging.WARNING):
        assert find_gpu(Nvml(), index) is None
    assert f"NVML does not know CUDA's GPU {index}: {words}" in caplog.text


def test_no_driver_means_no_nvml_and_no_error() -> None:
    with open_nvml() as nvml:
        assert nvml is None or nvml.nvmlDeviceGetCount() >= 0


@pytest.mark.gpu
def test_a_real_gpu_has_the_same_name_for_both() -> None:
    from vla_edge.runtime.cuda.opening import open_device

    device = open_device(0)
    try:
        with module.open_gpu(0) as gpu:
            assert gpu is not None
            assert gpu.nvml.nvmlDeviceGetName(gpu.handle) == device.info.name
    finally:
        device.close()
