"""A policy without text, with tensors, stages and units of its own: nothing of the first family is asked of it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from wordless_bundle import LAYER, LIMIT, SCALE, SIDE, manifest_of, write_wordless

from vla_edge.runtime import Controller, ControllerOptions, Policy
from vla_edge.runtime.batch import BatchPolicy
from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.bundle.manifest import encode
from vla_edge.runtime.bundle.manifest_file import decode
from vla_edge.runtime.errors import BundleError, InputError, InstructionError

INSTRUCTION = {"text": "go", "token_ids": [], "graph_ids": []}
VALID = encode(manifest_of([]))


@pytest.fixture(scope="module")
def wordless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wordless(tmp_path_factory.mktemp("wordless") / "wordless")


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(path)
    return path


def wanted(photo: Path) -> list[float]:
    colour = np.asarray(Image.open(photo), np.float64).mean((0, 1)) / 255
    return list(np.clip(colour @ LAYER * SCALE, np.negative(LIMIT), LIMIT))


def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_acts_on_a_frame_alone(wordless: Path, photo: Path) -> None:
    with Policy.load(wordless, "onnxruntime") as policy:
        policy.warmup()
        assert policy.instructions == ()
        action = policy.act(photo)
    assert action.values == pytest.approx(wanted(photo), abs=1e-5)
    assert (action.units, action.instruction) == (("m/s", "rad/s"), None)
    fields = action.as_dict()
    assert (fields["unit"], fields["units"]) == (None, {"linear_x": "m/s", "angular_z": "rad/s"})


def test_frames_of_a_folder_act_too(wordless: Path, photo: Path) -> None:
    with BatchPolicy.load(wordless, "onnxruntime") as policy:
        (action,) = policy.act([photo])
    assert not isinstance(action, Exception)
    assert action.values == pytest.approx(wanted(photo), abs=1e-5)


def test_an_instruction_is_refused_in_words(wordless: Path, photo: Path) -> None:
    with (
        Policy.load(wordless, "onnxruntime") as policy,
        pytest.raises(InstructionError, match="takes no instruction; 'go left' was given") as raised,
    ):
        policy.act(photo, "go left")
    assert raised.value.hint == "Leave the instruction out."
    done = run("vla_edge.runtime.run.cli", wordless, photo, "--instruction", "go left")
    assert (done.returncode, "takes no instruction" in done.stderr) == (2, True)


def test_limits_are_in_each_component_s_unit(wordless: Path) -> None:
    with Policy.load(wordless, "onnxruntime") as policy:
        Controller(policy, ControllerOptions(limits={"angular_z": 0.25}))
        with pytest.raises(InputError, match=r"0\.75 rad/s of angular_z .* manifest's 0\.5 rad/s"):
            Controller(policy, ControllerOptions(limits={"angular_z": 0.75}))


def test_vla_run_says_nothing_of_an_instruction_and_every_unit(wordless: Path, photo: Path) -> None:
    lines = run("vla_edge.runtime.run.cli", wordless, photo).stdout.splitlines()
    assert lines[0].split() == ["linear_x", "m/s", "angular_z", "rad/s", "image"]
    assert lines[2].startswith("1 image; clamped to ±1.15 m/s, ±0.5 rad/s; p50 ")


def test_columns_of_a_file_name_their_units(wordless: Path, photo: Path, tmp_path: Path) -> None:
    path = tmp_path / "actions.csv"
    assert run("vla_edge.runtime.run.cli", wordless, photo, "-o", path).returncode == 0
    head, row = csv.reader(path.read_text().splitlines())
    assert head[1:4] == ["instruction", "linear_x_mps", "angular_z_radps"]
    assert row[1] == ""


def test_vla_inspect_shows_its_stages_and_units(wordless: Path) -> None:
    text = run("vla_edge.export.inspect.cli", wordless).stdout
    assert "action within 0.0025 m/s or rad/s of 0.01 m/s or rad/s allowed, 4.0x room" in text
    assert "action: linear_x ±1.15 m/s, angular_z ±0.5 rad/s" in text
    assert "instructions: none, a policy without text" in text
    assert "mean-colour" in text
    told = json.loads(run("vla_edge.export.inspect.cli", wordless, "--json").stdout)
    assert (told["action"]["units"], told["action"]["unit"]) == (["m/s", "rad/s"], None)
    assert told["architecture"]["family"] == "wordless"
    assert [stage["name"] for stage in told["stages"]] == ["mean-colour", "action"]
    assert told["gates"][-1]["unit"] == "m/s or rad/s"


def test_golden_samples_are_named_by_its_inputs(wordless: Path) -> None:
    golden = load_golden(Bundle.open(wordless))
    assert sorted(golden) == ["actions", "camera", "names", "stage_mean-colour"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(instructions=[INSTRUCTION], default_instruction="go"), "no prompt"),
        (lambda m: m.update(default_instruction="go"), "'go' is not among the instructions"),
        (lambda m: m["inputs"].append({**m["inputs"][0], "name": "second"}), "the role 'pixels'"),
        (
            lambda m: m["inputs"].append(
                {"name": "words", "dtype": "int32", "shape": [1, 4], "role": "token_ids"}
            ),
            "words int32 [1, 4] is fed from a prompt, and it has none",
        ),
        (lambda m: m["inputs"][0].update(name="actions"), "an input is named 'actions'"),
        (lambda m: m["inputs"][0].update(name="stage_x"), "an input is named 'stage_x'"),
        (lambda m: m["outputs"].append(other_output("actions")), "an output is named 'actions'"),
        (lambda m: m["outputs"].append(other_output("names")), "an output is named 'names'"),
        (lambda m: m["outputs"].append(other_output("stage_mean-colour")), "an output is named 'stage_mean"),
        (lambda m: m["inputs"][0].update(role="lidar"), "at `$.inputs[0].role`"),
        (lambda m: m["inputs"][0].update(role="state"), "do not fit each other"),
        (lambda m: m["action"].update(units=["m/s"]), "action.units has 1 values for 2 action names"),
        (lambda m: m["action"].update(units=["m/s", " rad"]), "space around a unit"),
        (lambda m: m["action"].update(units=["m/s", "x" * 33]), "at `$.action.units[1]`"),
        (lambda m: m["action"].update(units=["m/s", "\x9b31m"]), "action.units"),
        (lambda m: m["source"].update(layout="a\nb"), "source.layout"),
        (lambda m: m["stages"][0].update(name="a=b"), "at `$.stages[0].name`"),
        (lambda m: m["stages"][0].update(name="a\n"), "at `$.stages[0].name`"),
        (lambda m: m["parity"]["gates"][0].update(stage="vision"), "a stage 'vision' that it does not list"),
        (lambda m: m["parity"]["errors"][0].update(stage="text"), "a stage 'text' that it does not list"),
        (lambda m: m["parity"]["gates"][0].update(metric="max_abs"), "is in max_abs"),
        (lambda m: m["architecture"].update(family="\u202e"), "architecture.family"),
        (lambda m: m["architecture"].update(values={"a": nested(17)}), "architecture.values are nested"),
        (lambda m: m["cuts"].append(m["cuts"][0]), "the cut 'mean-colour' is listed twice"),
        (lambda m: m["cuts"][0].update(tensors=[]), "at `$.cuts[0].tensors`"),
        (
            lambda m: m["cuts"][0]["tensors"].append(m["cuts"][0]["tensors"][0]),
            "names the tensor 'colour' twice",
        ),
        (lambda m: m["cuts"][0]["tensors"][0].update(shape=[3]), "not the shape of the tensor 'colour'"),
        (
            lambda m: m["cuts"][0]["tensors"][0].update(name="crossing", shape=[1 << 20, 1 << 10]),
            "take 4294967296 bytes",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change: Callable[[dict[str, Any]], object], words: str) -> None:
    fields = json.loads(VALID)
    change(fields)
    with pytest.raises(BundleError) as raised:
        decode(json.dumps(fields).encode())
    assert words in raised.value.problem


def other_output(name: str) -> dict[str, Any]:
    return {"name": name, "dtype": "float32", "shape": [1, 1, 2], "role": "other"}


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value
