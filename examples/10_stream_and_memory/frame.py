"""A camera's driver writes into the engine's own memory, and the engine runs on a CUDA stream of yours."""

import argparse
from contextlib import ExitStack

import numpy as np

from vla_edge.runtime import EngineError, Policy, VlaError, open_device

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("bundle", help="what vla-export --camera HEIGHTxWIDTH wrote")
given = parser.parse_args()


def camera(into: np.ndarray, at: int) -> None:
    """Stands in for a driver that writes its frames where it is told to."""
    into[...] = np.random.default_rng(at).integers(0, 256, into.shape, dtype=np.uint8)


def main(owned: ExitStack) -> None:
    gpu, stream = None, 0
    try:
        gpu = open_device()
    except EngineError as error:
        print(f"no GPU: {error.problem} Running on the CPU: no stream, the same memory.")
    if gpu is None:
        policy = owned.enter_context(Policy.load(given.bundle, backend="onnxruntime"))
    else:
        owned.callback(gpu.close)
        stream = gpu.create_stream()  # or the handle of any stream: of CV-CUDA, PyTorch, your own C++
        owned.callback(gpu.destroy_stream, stream)  # after the policy is closed, which needs it until then
        policy = owned.enter_context(Policy.load(given.bundle, backend="tensorrt", stream=stream))
    policy.warmup()
    frame = policy.frame  # uint8 [1, height, width, 3], page-locked on a GPU, as long as the policy lives
    if gpu is not None:
        decoded = gpu.allocate(frame.nbytes)  # where a hardware decoder leaves its pictures
        owned.callback(gpu.free, decoded)
    for at in range(3):
        camera(frame, at)
        print("frame in the engine's memory:", *(f"{value:+.3f}" for value in policy.act(frame).values))
        if gpu is not None:
            gpu.copy_to_device(decoded, frame, stream)
            gpu.copy_to_host(frame, decoded, stream)  # queued; act() comes behind it, without a wait
            print("frame from the device:       ", *(f"{value:+.3f}" for value in policy.act(frame).values))
    print(policy.identity, policy.identity.provider)


try:
    with ExitStack() as owned:
        main(owned)
except VlaError as error:  # it says what is wrong and how to fix it
    parser.exit(error.exit_code, f"{error}\n")
