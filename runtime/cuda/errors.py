"""CUDA's error codes as errors that tell what to do."""

from __future__ import annotations

from vla_edge.runtime.errors import EngineError

# The context is lost: every later call of this process fails too.
_LOST = "The CUDA context is lost: stop the robot and restart the process."

_HINTS = {
    "CUDA_ERROR_OUT_OF_MEMORY": (
        "Free device memory (nvidia-smi shows who holds it; a Jetson shares it with the CPU) or use a smaller engine."
    ),
    "CUDA_ERROR_NO_DEVICE": "Check nvidia-smi (tegrastats on Jetson) and CUDA_VISIBLE_DEVICES.",
    "CUDA_ERROR_INVALID_DEVICE": "Choose another device index; nvidia-smi -L lists them.",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "The driver's user and kernel parts differ: reboot after a driver update.",
    "CUDA_ERROR_STUB_LIBRARY": "A stub libcuda.so stands before the real one: fix LD_LIBRARY_PATH.",
    "CUDA_ERROR_SYSTEM_NOT_READY": "The driver is still starting, or its fabric manager is not running.",
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE": "Remove CUDA's forward-compatibility package, or update the driver.",
    "CUDA_ERROR_NO_BINARY_FOR_GPU": "The engine was built for another GPU: build it here with vla-build.",
    "CUDA_ERROR_ILLEGAL_ADDRESS": _LOST,
    "CUDA_ERROR_LAUNCH_FAILED": _LOST,
    "CUDA_ERROR_LAUNCH_TIMEOUT": _LOST,
    "CUDA_ERROR_ASSERT": _LOST,
    "CUDA_ERROR_MISALIGNED_ADDRESS": _LOST,
    "CUDA_ERROR_ILLEGAL_INSTRUCTION": _LOST,
    "CUDA_ERROR_ECC_UNCORRECTABLE": "The GPU's memory is failing: see nvidia-smi -q -d ECC, and reset or replace it.",
    "CUDA_ERROR_DEVICE_UNAVAILABLE": "Another process uses the GPU exclusively.",
    "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED": "Close the session that pinned this memory first.",
}
_CAPTURE_HINT = "Run without a CUDA graph (graph=False), and report what the log says before this line."
_DEFAULT_HINT = "Look the code up in the CUDA driver API's CUresult; a restart of the process clears most."


def cuda_error(call: str, name: str, text: str) -> EngineError:
    """An error from the driver's own words.

    Args:
        call: the driver function, such as "cuMemAlloc".
        name: such as "CUDA_ERROR_OUT_OF_MEMORY".
        text: the driver's sentence for it.
    """
    hint = _HINTS.get(name)
    if hint is None:
        hint = _CAPTURE_HINT if "STREAM_CAPTURE" in name else _DEFAULT_HINT
    return EngineError(f"CUDA's {call} failed: {name} ({text}).", hint)


def no_driver() -> EngineError:
    """The driver library itself is missing."""
    return EngineError(
        "There is no NVIDIA driver on this machine.",
        "Install the driver (in a container: start it with --gpus all, or --runtime nvidia on Jetson).",
    )
