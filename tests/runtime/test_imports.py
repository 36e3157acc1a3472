"""The package imports at once and pulls in nothing that a robot lacks."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import vla_edge.runtime

HEAVY = (
    "torch",
    "transformers",
    "onnx",
    "onnxruntime",
    "tensorrt",
    "tokenizers",
    "rich",
    "numpy",
    "PIL",
    "msgspec",
)


def modules_after(code: str) -> set[str]:
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert modules_after("import vla_edge.runtime").isdisjoint(HEAVY)


def test_importing_the_commands_helper_imports_nothing_heavy() -> None:
    assert modules_after("import vla_edge.runtime.command.console").isdisjoint(HEAVY)


def test_help_is_printed_without_an_engine_or_numpy() -> None:
    code = "import vla_edge.runtime.run.cli as c\nc.command.main(['--help'], standalone_mode=False)"
    assert modules_after(code).isdisjoint(HEAVY)


def test_running_a_policy_needs_neither_torch_nor_onnx(pristine_bundle: object) -> None:
    code = f"from vla_edge.runtime import Policy\nPolicy.load({str(pristine_bundle)!r}).warmup()"
    loaded = modules_after(code)
    assert "onnxruntime" in loaded
    assert loaded.isdisjoint(
        {"torch", "transformers", "onnx", "tokenizers", "vla_edge.export", "vla_edge.bench"}
    )


@pytest.mark.parametrize("name", vla_edge.runtime.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(vla_edge.runtime, name) is not None
    assert name in dir(vla_edge.runtime)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Polcy'"):
        _ = vla_edge.runtime.Polcy


def test_onnxruntime_is_imported_in_one_place_which_keeps_it_from_sending_anything() -> None:
    assert importers_of("onnxruntime") == ["runtime/engines/onnxruntime.py"]


@pytest.mark.parametrize(("package", "room"), [("cyclonedds", "dds"), ("rclpy", "ros"), ("std_msgs", "ros")])
def test_what_speaks_to_ros_2_is_imported_by_one_transport_alone(package: str, room: str) -> None:
    importers = importers_of(package)
    assert importers
    assert {path.rpartition("/")[0] for path in importers} == {f"runtime/ros2/{room}"}


def importers_of(package: str) -> list[str]:
    """The files of the product that import a package, anywhere in them."""
    root = Path(__file__).parents[2]
    files = [path for folder in ("runtime", "export", "bench") for path in (root / folder).rglob("*.py")]
    return [path.relative_to(root).as_posix() for path in files if package in imported_by(path)]


def imported_by(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere, inside functions too."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0]
    return {name.split(".")[0] for name in names}
