"""The ROS package: its files agree with each other and with the node, and its launch file with launch's signatures."""

from __future__ import annotations

import ast
import configparser
import runpy
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import fake_ros
import pytest

from vla_edge.runtime.ros2.parameters import NodeParameters, read_parameters
from vla_edge.runtime.ros2.ros.arguments import ros_arguments
from vla_edge.runtime.ros2.topics import NODE, Topics
from vla_edge.runtime.version import VERSION

PACKAGE = Path(__file__).parents[4] / "ros2" / "vla_edge_ros"
LAUNCH = PACKAGE / "launch" / "node.launch.py"

_ROS, _LAUNCH = "launch_ros/launch_ros", "launch/launch"
# Where a class is imported from -> by which signatures it takes what it is called with.
CALLED = {
    ("launch", "LaunchDescription"): [f"{_LAUNCH}/launch_description.py:LaunchDescription.__init__"],
    ("launch.actions", "DeclareLaunchArgument"): [
        f"{_LAUNCH}/actions/declare_launch_argument.py:DeclareLaunchArgument.__init__"
    ],
    ("launch.actions", "EmitEvent"): [f"{_LAUNCH}/actions/emit_event.py:EmitEvent.__init__"],
    ("launch.actions", "RegisterEventHandler"): [
        f"{_LAUNCH}/actions/register_event_handler.py:RegisterEventHandler.__init__"
    ],
    ("launch.events", "matches_action"): [f"{_LAUNCH}/events/matchers.py:matches_action"],
    ("launch.substitutions", "LaunchConfiguration"): [
        f"{_LAUNCH}/substitutions/launch_configuration.py:LaunchConfiguration.__init__"
    ],
    ("launch.substitutions", "PathJoinSubstitution"): [
        f"{_LAUNCH}/substitutions/path_join_substitution.py:PathJoinSubstitution.__init__"
    ],
    ("launch_ros.actions", "LifecycleNode"): [
        f"{_ROS}/actions/lifecycle_node.py:LifecycleNode.__init__",
        f"{_ROS}/actions/node.py:Node.__init__",
        f"{_LAUNCH}/actions/execute_process.py:ExecuteProcess.__init__",
        f"{_LAUNCH}/actions/execute_local.py:ExecuteLocal.__init__",
    ],
    ("launch_ros.event_handlers", "OnStateTransition"): [
        f"{_ROS}/event_handlers/on_state_transition.py:OnStateTransition.__init__"
    ],
    ("launch_ros.events.lifecycle", "ChangeState"): [
        f"{_ROS}/events/lifecycle/change_state.py:ChangeState.__init__"
    ],
    ("launch_ros.parameter_descriptions", "ParameterValue"): [
        f"{_ROS}/parameter_descriptions.py:ParameterValue.__init__"
    ],
    ("launch_ros.substitutions", "FindPackageShare"): [
        f"{_ROS}/substitutions/find_package.py:FindPackage.__init__"
    ],
}


class Called:
    """What was called, and with what; refused where no signature takes it."""

    def __init__(self, name: str, keys: list[str], given: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.name, self.given, self.named = name, given, named
        for distribution in fake_ros.DISTRIBUTIONS:
            signatures = [fake_ros.signature(distribution, key).parameters for key in keys]
            known = {each for parameters in signatures for each in parameters}
            assert set(named) <= known, f"{name} does not take {set(named) - known}"
            if len(keys) == 1:
                fake_ros.bind(keys[0], *([None] if "self" in known else []), *given, **named)


@pytest.fixture
def launch() -> Iterator[None]:
    """Modules that know these names alone."""
    made: dict[str, ModuleType] = {}
    for (module, name), keys in CALLED.items():
        parts = module.split(".")
        for at in range(len(parts)):
            package = ".".join(parts[: at + 1])
            made.setdefault(package, ModuleType(package)).__dict__["__path__"] = []

        def call(*given: Any, _name: str = name, _keys: list[str] = keys, **named: Any) -> Called:
            return Called(_name, _keys, given, named)

        setattr(made[module], name, call)
    messages = ModuleType("lifecycle_msgs.msg")
    # lifecycle_msgs/msg/Transition
    messages.Transition = type("Transition", (), {"TRANSITION_CONFIGURE": 1, "TRANSITION_ACTIVATE": 3})  # type: ignore[attr-defined]
    made |= {"lifecycle_msgs": ModuleType("lifecycle_msgs"), "lifecycle_msgs.msg": messages}
    with pytest.MonkeyPatch.context() as patch:
        for name, module in made.items():
            patch.setitem(sys.modules, name, module)
        yield


@pytest.mark.usefixtures("launch")
def test_the_launch_file_describes_the_node() -> None:
    described = runpy.run_path(str(LAUNCH))["generate_launch_description"]()
    actions = described.given[0]
    node = next(action for action in actions if action.name == "LifecycleNode")
    assert (node.named["package"], node.named["executable"], node.named["name"]) == (
        PACKAGE.name,
        "node",
        NODE,
    )
    remapped = {old for old, _ in node.named["remappings"]}
    assert remapped <= set(asdict(Topics()).values())
    arguments = {action.given[0] for action in actions if action.name == "DeclareLaunchArgument"}
    used = set()
    for call in ast.walk(ast.parse(LAUNCH.read_text())):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "LaunchConfiguration":
            used.add(ast.literal_eval(call.args[0]))
    assert used == arguments


def test_the_parameters_are_all_there_with_their_defaults() -> None:
    assert read_parameters(PACKAGE / "config" / "node.yaml") == NodeParameters()
    text = (PACKAGE / "config" / "node.yaml").read_text()
    assert all(f"    {name}: " in text for name in asdict(NodeParameters()))


def test_the_manifest_names_what_is_imported_and_this_version() -> None:
    package = ElementTree.parse(PACKAGE / "package.xml").getroot()
    assert package.findtext("name") == PACKAGE.name
    assert package.findtext("version") == VERSION
    assert package.findtext("export/build_type") == "ament_python"
    imported = set()
    room = PACKAGE.parents[1] / "runtime" / "ros2" / "ros"
    for source in (LAUNCH, *room.glob("*.py")):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported.add(node.module.partition(".")[0])
    ours = {"__future__", "vla_edge", "click"} | set(sys.stdlib_module_names)
    assert {each.text for each in package.iter("exec_depend")} == imported - ours


def test_setup_installs_each_file_and_one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr("setuptools.setup", lambda **given: told.update(given))
    monkeypatch.chdir(PACKAGE)
    runpy.run_path("setup.py")
    files = {file for _, listed in told["data_files"] for file in listed}
    assert files == {"resource/vla_edge_ros", "package.xml", "launch/node.launch.py", "config/node.yaml"}
    assert all((PACKAGE / file).exists() for file in files)
    assert told["version"] == VERSION
    assert told["entry_points"] == {"console_scripts": ["node = vla_edge_ros.node:main"]}
    assert runpy.run_path("vla_edge_ros/node.py")["main"].__module__ == "vla_edge.runtime.ros2.ros.start"
    parsed = configparser.ConfigParser()
    parsed.read("setup.cfg")
    assert parsed["install"]["install_scripts"] == "$base/lib/vla_edge_ros"


def test_what_vla_node_was_told_reaches_ros(tmp_path: Path) -> None:
    told = ros_arguments(tmp_path / "1.0", tmp_path / "node.yaml", ["/cmd_vel:=/base/cmd_vel"], True)
    assert told == [
        "--ros-args",
        "--params-file",
        str(tmp_path / "node.yaml"),
        "-r",
        "/cmd_vel:=/base/cmd_vel",
        "-p",
        f"bundle:='{tmp_path}/1.0'",
        "-p",
        "autostart:=true",
    ]
