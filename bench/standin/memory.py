"""What PyTorch's allocator holds for the stand-in, from shapes: the parts that add up to a measured peak.

The peaks are those of `torch.cuda.max_memory_allocated()`, in MiB (bytes / 1024**2). Three moments differ:

* Held: every weight once.
* Moving: `.to("cuda")` moves module by module. When the RNN has arrived, `flatten_parameters` makes one block
  for all of its weights, copies them in, and lets the single ones go: for a moment they are there twice. The
  head has not come yet.
* Stepping: cuDNN asks for a workspace as large as the RNN's weights (`cudnnGetRNNTempSpaceSizes`), which
  PyTorch takes and gives back at every call, beside cuBLAS's workspace, which stays. It is not the copy that
  PyTorch warns of ("not part of single contiguous chunk of memory"): a copy at each call would read and write
  the RNN's weights once more, and that the measured times leave no room for.

cuBLAS's workspace is 32 MiB on Hopper and 8.125 MiB (:4096:2:16:8) elsewhere, one for each stream; cuBLASLt's
is 1 MiB. All are PyTorch 2.11's defaults (`aten/src/ATen/cuda/CublasHandlePool.cpp`); older versions give
cuBLASLt's back before the RNN runs. On Hopper the steps hold 32 MiB more, as large as a second workspace of
cuBLAS: measured on an H200 (2220.6 MiB in FP32, 1142.8 in FP16, eager and captured alike) and seen on an H100
(2220); which library takes it was not traced. `CUBLAS_WORKSPACE_CONFIG` and `CUBLASLT_WORKSPACE_SIZE` change them.
Activations are below 0.2 MiB and left out.
"""

from __future__ import annotations

from vla_edge.bench.report.types import MemoryPart
from vla_edge.bench.report.units import BYTES_PER_MIB

from .model import Precision, Standin

HOPPER = 90
CUBLAS_HOPPER_MIB = 32.0
CUBLAS_MIB = 8.125
CUBLASLT_MIB = 1.0
SECOND = "a second workspace of this size, seen on Hopper, not traced"
ITEM_BYTES = {"fp32": 4, "fp16": 2}


def explain_memory(precision: Precision, sm: int, *, cublaslt: bool = True) -> tuple[MemoryPart, ...]:
    """The parts of what PyTorch's allocator holds at most while stepping.

    Args:
        precision: of the module.
        sm: compute capability as one number: 90 for 9.0.
        cublaslt: whether cuBLASLt's workspace stays, as in PyTorch 2.11.
    """

    def mib(numbers: int) -> float:
        return numbers * ITEM_BYTES[precision] / BYTES_PER_MIB

    standin = Standin()
    blas = CUBLAS_HOPPER_MIB if sm == HOPPER else CUBLAS_MIB
    return (
        MemoryPart(what="weights", mib=mib(standin.parameters_of())),
        MemoryPart(
            what="cuDNN's workspace, as large as the RNN's weights", mib=mib(standin.parameters_of("rnn"))
        ),
        MemoryPart(what="cuBLAS's workspace", mib=blas),
        MemoryPart(what="input", mib=mib(standin.pixels)),
        *((MemoryPart(what=SECOND, mib=CUBLAS_HOPPER_MIB),) if sm == HOPPER else ()),
        *((MemoryPart(what="cuBLASLt's workspace", mib=CUBLASLT_MIB),) if cublaslt else ()),
    )


def total_mib(parts: tuple[MemoryPart, ...]) -> float:
    """Their sum."""
    return sum(part.mib for part in parts)
