"""What a stranger does with an image: no name, a read-only root, one folder mounted."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from stages import HERE, JETPACK_PYTHON, STRANGER, UV, Rehearsal, Stage

ABSENT = """
import importlib.util, shutil, sys
import vla_edge.runtime
found = [name for name in sys.argv[1:] if shutil.which(name) or importlib.util.find_spec(name)]
sys.exit(f"left in the image: {found}" if found else print("Python", sys.version.split()[0], "without", *sys.argv[1:]))
"""
DRIVE = """
import sys, time
import numpy as np
from vla_edge.runtime import Controller, ControllerOptions, Policy, stop_on_exit
rng = np.random.default_rng(0)
with Policy.load(sys.argv[1], backend="onnxruntime") as policy:
    policy.warmup()
    controller = Controller(policy, ControllerOptions(deadline_ms=5000))
    with stop_on_exit(lambda: print("move", 0.0, 0.0, flush=True), controller):
        while True:
            command = controller.step(rng.integers(0, 255, (480, 640, 3), dtype=np.uint8), captured_s=time.monotonic())
            print("move", *command.values, command.reason or "driving", flush=True)
"""


def try_export(rehearsal: Rehearsal, stage: Stage, mounted: Path) -> None:
    """A sample checkpoint, exported and run by a stranger; every file that it leaves is his."""
    bench = "bench" in rehearsal.arguments.get("EXTRAS", "").split(",")
    for command in (
        ["python", "-c", ABSENT, "pip", "uv", "gcc", "cc", "git"],
        ["vla-sample", "--layout", "hybrid-a", "--size", "tiny", "-o", "samples"],
        ["vla-export", "--ckpt", "samples/best_simple_clip_lstm_model.pth", "--fp16", "-o", "engines"],
        ["vla-doctor", "engines/best_simple_clip_lstm_model-fp16"],
        *([["vla-bench", "engines", "--quick", "--out", "report"]] if bench else []),
    ):
        print(f"\n$ {shlex.join(command)[:100]}", flush=True)
        rehearsal.inside(stage, command, mounted=mounted)


def try_robot(rehearsal: Rehearsal, stage: Stage, mounted: Path) -> None:
    """The doctor's word; then a tiny bundle on ONNX Runtime, which is put beside the image: TensorRT is not here."""
    bundle = "engines/best_simple_clip_lstm_model-fp16"
    here = Path(sys.executable).parent
    sample = [here / "vla-sample", "--layout", "hybrid-a", "--size", "tiny", "-o", mounted / "samples"]
    checkpoint = mounted / "samples/best_simple_clip_lstm_model.pth"
    export = [here / "vla-export", "--ckpt", checkpoint, "--fp16", "-o", mounted / "engines"]
    for made in (sample, export):
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
    shutil.copy(HERE / "export/images/coffee.jpg", mounted / "frame.jpg")
    shutil.copy(HERE / "examples/04_control_loop/loop.py", mounted / "drive.py")
    options = ["--quiet", "--no-deps", "--python-version", JETPACK_PYTHON, "--only-binary", ":all:"]
    beside = [UV, "pip", "install", *options, "--target", mounted / "beside", "onnxruntime"]
    subprocess.run(beside, check=True)
    give(mounted)
    extra = {"PYTHONPATH": f"{stage.workdir}/beside"}
    for command, expect, more in (
        (["python", "-c", ABSENT, "uv", "torch", "onnx", "onnxruntime"], 0, {}),
        (["vla-doctor"], 1, {}),
        (["vla-run", bundle, "frame.jpg", "--backend", "onnxruntime"], 0, extra),
        (["vla-bundle", "pack", bundle, "-o", "policy.vla"], 0, {}),
        (["vla-bundle", "deploy", "policy.vla", "deployed", "--backend", "onnxruntime"], 0, extra),
        (["python", "drive.py", "deployed/current"], 0, extra),
    ):
        print(f"\n$ {shlex.join(command)[:100]}   # exit code {expect} expected", flush=True)
        rehearsal.inside(stage, command, mounted=mounted, expect=expect, extra=more)
    try_stop(rehearsal, stage, mounted, extra)


def try_stop(rehearsal: Rehearsal, stage: Stage, mounted: Path, extra: Mapping[str, str]) -> None:
    """SIGTERM to a driving program that is process 1, as `docker stop` sends it: zeros are its last command."""
    line = rehearsal.line(stage, ["python", "-c", DRIVE, "deployed/current"], mounted=mounted, extra=extra)
    print("\n$ a loop that drives, then SIGTERM", flush=True)
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as outer:
        assert outer.stdout is not None
        first = outer.stdout.readline()
        started = time.monotonic()
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        last = outer.stdout.read().splitlines()[-1]
    print(f"{first.strip()} ... {last}: {time.monotonic() - started:.2f} s, exit code {outer.returncode}")
    if last != "move 0.0 0.0" or outer.returncode != 143:
        sys.exit("the robot was not stopped")


def give(folder: Path) -> None:
    subprocess.run(["chown", "-R", f"{STRANGER}:{STRANGER}", folder], check=True)
