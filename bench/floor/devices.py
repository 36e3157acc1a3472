"""Predictions for devices that were not measured, from their makers' figures.

Nothing here is a measurement. A prediction takes published peaks, which nothing reaches: of LPDDR5 and GDDR6X
a copy gets about 80 to 90 %, and matrix products get less still. So `floor_ms` is a time that the device
will not beat, and `expected_ms` leans to the low side, too: it takes the engine's distance from the floor of
*measured* rates here as its distance from the floor of *published* ones there. Nor does it know of clocks
under a power limit, or of launch times, which weigh more on a small device with a slow host.

On FP16: the figures are dense products with FP32 accumulation on the GPU alone. Makers prefer to print
INT8 with sparsity, and for Jetson the sum of the GPU and its deep learning accelerators, which do not run
these graphs. Where only such a figure is published, FP16 is a quarter of the GPU's part: half for no
sparsity, and half for FP16 in place of INT8 (NVIDIA Ampere GA102 whitepaper, Appendix A: the tensor cores
do exactly half as many dense FP16 as INT8 operations, and sparsity doubles both).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import asdict

from vla_edge.bench.report.types import Forecast, Prediction

from .work import Work


class Published(Struct, frozen=True, kw_only=True):
    """What a maker states of a device.

    Attributes:
        device: name, and the mode where that matters.
        memory_gb_s: peak bandwidth of the memory, 10^9 bytes a second.
        fp16_tflops: dense FP16 matrix products with FP32 accumulation on the GPU, 10^12 operations a second.
        source: the document, and how a figure was derived that it does not state.
    """

    device: str
    memory_gb_s: float
    fp16_tflops: float
    source: str


PUBLISHED: tuple[Published, ...] = (
    Published(
        device="Jetson Orin Nano 8GB",
        memory_gb_s=68.0,
        fp16_tflops=10.0,
        source="NVIDIA Jetson Orin Nano Series Data Sheet DS-11105-001: 68 GB/s, 40 TOPS INT8 sparse, no DLA; "
        "FP16 derived: 40 / 4",
    ),
    Published(
        device="Jetson Orin Nano 8GB, Super",
        memory_gb_s=102.0,
        fp16_tflops=16.75,
        source="NVIDIA Jetson Orin Nano Super Developer Kit (developer blog, December 2024): 102 GB/s, "
        "67 TOPS INT8 sparse, no DLA; FP16 derived: 67 / 4 (NVIDIA rounds it to 17)",
    ),
    Published(
        device="Jetson Orin NX 8GB",
        memory_gb_s=102.4,
        fp16_tflops=12.5,
        source="NVIDIA Jetson Orin NX Series Data Sheet DS-10712-001: 102.4 GB/s, 70 TOPS INT8 sparse, of it "
        "one DLA 20; FP16 derived: (70 - 20) / 4",
    ),
    Published(
        device="Jetson Orin NX 16GB",
        memory_gb_s=102.4,
        fp16_tflops=15.0,
        source="NVIDIA Jetson Orin NX Series Data Sheet DS-10712-001: 102.4 GB/s, 100 TOPS INT8 sparse, of it "
        "two DLA 40; FP16 derived: (100 - 40) / 4",
    ),
    Published(
        device="Jetson AGX Orin 64GB",
        memory_gb_s=204.8,
        fp16_tflops=42.5,
        source="NVIDIA Jetson AGX Orin Series Technical Brief v1.2: 204.8 GB/s, GPU 170 of 275 TOPS INT8 "
        "sparse; FP16 derived: 170 / 4",
    ),
    Published(
        device="Jetson Thor T5000",
        memory_gb_s=273.0,
        fp16_tflops=258.5,
        source="NVIDIA Jetson Thor Series Data Sheet DS-11945-001: 273 GB/s, 517 TFLOPS FP16 sparse; dense "
        "derived: 517 / 2. The accumulator is not stated",
    ),
    Published(
        device="GeForce RTX 4090",
        memory_gb_s=1008.0,
        fp16_tflops=165.2,
        source="NVIDIA Ada GPU Architecture whitepaper v2.02, Appendix A: 1008 GB/s, 165.2 TFLOPS dense FP16 "
        "with FP32 accumulation (330.3 with FP16 accumulation, which the graphs do not allow)",
    ),
)


def forecast(
    bundle: str, work: Work, engine_times_floor: float | None, devices: Sequence[Published] = PUBLISHED
) -> Forecast:
    """What each device could at best do, and what the measured engine would be expected to need there.

    Args:
        bundle: its name.
        work: of it, in its graph's own sizes.
        engine_times_floor: `FloorDistance.times_floor` of an FP16 engine measured on a GPU here; None
            where there is none.
        devices: to predict for.
    """
    floors_ms = (max(work.times_ms(device.memory_gb_s, device.fp16_tflops)) for device in devices)
    rows = (
        Prediction(
            **asdict(device),
            floor_ms=floor_ms,
            expected_ms=None if engine_times_floor is None else floor_ms * engine_times_floor,
        )
        for device, floor_ms in zip(devices, floors_ms, strict=True)
    )
    return Forecast(bundle=bundle, bytes_read=work.bytes_read, operations=work.operations, rows=tuple(rows))
