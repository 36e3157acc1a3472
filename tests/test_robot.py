"""A robot's environment: the runtime, `vla-build`, and what looks into bundles need no torch and no onnx there.

The environments are folders of links to the packages that pyproject.toml asks for, and to nothing else.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
# What only a workstation has, though the environments are made from one that has it all.
ABSENT = ("torch", "transformers", "onnx", "open_clip", "psutil", "tokenizers", "yaml", "matplotlib")
# Of the exporter, what runs on a robot; all of the runtime does.
ON_ROBOTS = (
    "runtime/**/*.py",
    "export/build/**/*.py",
    "export/deploy/*.py",
    "export/packed/*.py",
    "export/page/*.py",
    "export/replay/*.py",
    "export/parts/*.py",
    "export/doctor/**/*.py",
    "export/screen/*.py",
    "export/inspect/bundle*.py",
    "export/inspect/machine.py",
    "export/**/cli.py",
)
# Of the runtime, what stands behind an extra, or behind ROS itself, which no wheel of ours brings.
BEHIND = {
    "episodes": (
        "runtime/drive/live_camera.py",
        "runtime/episodes/hdf5*.py",
        "runtime/episodes/video.py",
        "runtime/episodes/lerobot/tables.py",
        "runtime/episodes/lerobot/data_set.py",
        "runtime/episodes/ros2/mcap_file.py",
        "runtime/episodes/ros2/bag.py",
    ),
    "ros2": ("runtime/ros2/dds/*.py", "runtime/ros2/plain_yaml.py"),
    "ROS": ("runtime/ros2/ros/node.py", "runtime/ros2/ros/transport.py"),
}

Environment = Callable[..., Path]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Makes a folder of packages: `environment("onnxruntime")` has what that extra asks for too."""

    def make(extra: str = "") -> Path:
        folder = tmp_path_factory.mktemp(f"environment-{extra}")
        (folder / "vla_edge").mkdir()
        for ours in ("runtime", "export"):
            (folder / "vla_edge" / ours).symlink_to(ROOT / ours)
        for name in required(extra):
            found = distribution(name)
            for top in {path.parts[0] for path in found.files or () if path.parts[0] != ".."}:
                if not (folder / top).exists():
                    (folder / top).symlink_to(Path(str(found.locate_file(top))))
        return folder

    return make


def required(extra: str) -> set[str]:
    """Names of the distributions that `pip install vla-edge[extra]` brings."""
    names: set[str] = set()
    asked = [("vla-edge", {extra})]
    while asked:
        name, extras = asked.pop()
        for line in distribution(name).requires or ():
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": each}) for each in extras | {""}):
                if requirement.name not in names:
                    asked.append((requirement.name, requirement.extras))
                names.add(requirement.name)
    return names


def python(folder: Path, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Python with these packages and its own library, without site-packages and the user's settings."""
    start = f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"
    command = [sys.executable, "-I", "-S", "-c", start, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run(folder: Path, command: str, *arguments: object) -> str:
    """What a command prints that ends well."""
    entry = command.replace("-", "_")
    done = python(folder, f"from vla_edge.runtime.command.start import {entry}; {entry}()", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(patterns: Iterable[str]) -> set[Path]:
    return {path for pattern in patterns for path in ROOT.glob(pattern)}


def test_the_environment_has_nothing_of_a_workstation(environment: Environment) -> None:
    code = f"import importlib.util; print([n for n in {ABSENT} if importlib.util.find_spec(n)])"
    assert python(environment(), code).stdout == "[]\n"


@pytest.mark.parametrize("extra", ["", "episodes", "ros2"])
def test_every_module_for_a_robot_is_imported_there(environment: Environment, extra: str) -> None:
    """What needs an extra's libraries is imported after that was asked for, as by `open_episodes`."""
    if extra == "ros2":
        pytest.importorskip("cyclonedds", reason="no wheel of it for this machine")
    behind = {name: files(patterns) for name, patterns in BEHIND.items()}
    paths = behind[extra] if extra else files(ON_ROBOTS).difference(*behind.values())
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths
    ]
    code = "import importlib\nfor name in sys.argv[1:]: importlib.import_module(f'vla_edge.{name}')"
    done = python(environment(extra), code, *sorted(names))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "vla-build",
        "vla-bundle",
        "vla-drive",
        "vla-inspect",
        "vla-run",
        "vla-doctor",
        "vla-bisect",
        "vla-export",
        "vla-replay",
    ],
)
def test_help_is_there(environment: Environment, command: str) -> None:
    assert "Examples:" in run(environment(), command, "-h")


def test_a_bundle_is_looked_into_without_any_engine(
    environment: Environment, bundle_of: Callable[..., Path]
) -> None:
    assert bundle_of("pure").name in run(environment(), "vla-inspect", bundle_of("pure"))


def test_one_engine_acts(environment: Environment, bundle_of: Callable[..., Path]) -> None:
    image = ROOT / "export" / "images" / "coffee.jpg"
    answer = run(environment("onnxruntime"), "vla-run", bundle_of("pure"), image, "--json")
    assert json.loads(answer)["engine"]["backend"] == "onnxruntime"


def test_frames_are_replayed_without_torch_which_is_missed_only_where_it_is_asked_for(
    environment: Environment, bundle_of: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copy(ROOT / "export" / "images" / "coffee.jpg", tmp_path / "0.jpg")
    *steps, last = run(
        environment("onnxruntime"), "vla-replay", bundle_of("pure"), tmp_path, "--json"
    ).splitlines()
    assert len(steps) == json.loads(last)["summary"]["steps"] == 1
    code = "from vla_edge.runtime.command.start import vla_replay; vla_replay()"
    asked = (bundle_of("pure"), tmp_path, "--against", "torch", "--checkpoint", "policy.pth")
    done = python(environment("onnxruntime"), code, *asked)
    assert done.returncode == 1
    assert "pip install 'vla-edge[export]'" in done.stderr


def test_the_doctor_runs_golden_samples(environment: Environment, bundle_of: Callable[..., Path]) -> None:
    answer = json.loads(run(environment("onnxruntime"), "vla-doctor", bundle_of("pure"), "--json"))
    assert answer["findings"][-1]["id"] == "samples"
    assert answer["can_run"]


def test_a_policy_is_packed_and_deployed(
    environment: Environment, bundle_of: Callable[..., Path], tmp_path: Path
) -> None:
    folder = environment("onnxruntime")
    run(folder, "vla-bundle", "pack", bundle_of("pure"), "-o", tmp_path / "pure.vla")
    options = ("--backend", "onnxruntime")
    assert "checked: " in run(
        folder, "vla-bundle", "deploy", tmp_path / "pure.vla", tmp_path / "root", *options
    )
    assert bundle_of("pure").name in run(folder, "vla-bundle", "list", tmp_path / "root")


def test_a_plan_is_built(environment: Environment, bundle_of: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    bundle = shutil.copytree(bundle_of("pure"), tmp_path / "pure")
    options = ("--backend", "tensorrt-rtx", "--sm", "89")
    assert "NOT checked" in run(environment("tensorrt-rtx"), "vla-build", bundle, *options)
    assert list((bundle / "plans").glob("*.plan"))
