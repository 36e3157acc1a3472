"""A graph that never ends is ended, whatever the main thread is doing."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

_FOR_EVER = 2**62
_LAUNCH = [sys.executable, "-m", "vla_edge.runtime.run.cli"]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "frame.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def endless_bundle(tmp_path: Path, bundle_of: Callable[..., Path]) -> Path:
    """A sound bundle whose graph turns its action over for ever; every size and hash is right."""
    folder = tmp_path / "endless"
    shutil.copytree(bundle_of("pure"), folder)
    path = folder / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        node.output[:] = ["first" if name == "actions" else name for name in node.output]
    _add_loop(model.graph)
    data = model.SerializeToString()
    path.write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for entry in manifest["files"]:
        if entry["path"] == path.name:
            entry |= {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False))
    return folder


def _add_loop(graph: onnx.GraphProto) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["goes_on"]), helper.make_node("Neg", ["value"], ["turned"])],
        "body",
        [
            helper.make_tensor_value_info("at", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("turned", TensorProto.FLOAT, None),
        ],
    )
    graph.node.append(
        helper.make_node(
            "Constant", [], ["trips"], value=helper.make_tensor("", TensorProto.INT64, [], [_FOR_EVER])
        )
    )
    graph.node.append(helper.make_node("Loop", ["trips", "", "first"], ["actions"], body=body))


def test_a_graph_that_computes_for_ever_is_ended_in_words(endless_bundle: Path, picture: Path) -> None:
    ended = subprocess.run(
        [*_LAUNCH, str(endless_bundle), str(picture), "--time-limit", "3"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 1
    assert f"{endless_bundle} gave nothing for 3 s, which --time-limit allows." in ended.stderr
    assert "its graph may never end" in ended.stderr


def test_a_step_that_holds_pythons_lock_is_ended_too() -> None:
    # a match that backtracks holds the lock, as a native library may
    program = (
        "import re; from vla_edge.runtime.run import time_limit; time_limit._LAST_RESORT_S = 0.5\n"
        "with time_limit.TimeLimit(0.5, 'work'): re.match(r'(a+)+$', 'a' * 64 + 'b')"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60).returncode == 1


def test_each_result_has_all_of_the_time(bundle_of: Callable[..., Path], picture: Path) -> None:
    program = (
        "import time; from vla_edge.runtime.run.time_limit import TimeLimit\n"
        "with TimeLimit(4, 'work') as limit:\n"
        "    for _ in range(5): time.sleep(1); limit.next()\n"
        "time.sleep(4.5)"  # after the block nothing is ended
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_a_policy_that_answers_in_time_is_not_touched(bundle_of: Callable[..., Path], picture: Path) -> None:
    ended = subprocess.run(
        [*_LAUNCH, str(bundle_of("pure")), str(picture), "--time-limit", "100"],
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, "m/s" in ended.stdout) == (0, True)


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "inf", "1e300", "soon"])
def test_a_limit_that_is_no_time_is_refused(limit: str, picture: Path) -> None:
    ended = subprocess.run(
        [*_LAUNCH, "nowhere", str(picture), "--time-limit", limit], capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert "--time-limit" in ended.stderr
