"""Write down the part of rclpy, launch_ros and launch that is used here, from clones (git folders) of them.

    F=tests/support/ros_interface.json; python tests/support/record_ros_interface.py RCLPY LAUNCH_ROS LAUNCH > $F

Of each function its parameters, of each enumeration its members: for Humble, which JetPack 6's Ubuntu has, and for
the development branch.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

BRANCHES = ("humble", "rolling")
# Of each repository: file -> functions, and classes of which a constructor or members are used.
USED = {
    "ros2/rclpy": {
        "rclpy/rclpy/__init__.py": ("init", "shutdown"),
        "rclpy/rclpy/clock.py": ("Clock.now",),
        "rclpy/rclpy/duration.py": ("Duration.__init__",),
        "rclpy/rclpy/executors.py": (
            "ExternalShutdownException",
            "Executor.add_node",
            "Executor.shutdown",
            "Executor.spin",
            "SingleThreadedExecutor.__init__",
        ),
        "rclpy/rclpy/impl/rcutils_logger.py": ("RcutilsLogger.error",),
        "rclpy/rclpy/lifecycle/node.py": (
            "LifecycleNode.__init__",
            "LifecycleNodeMixin.self",
            "LifecycleNodeMixin.on_activate",
            "LifecycleNodeMixin.on_cleanup",
            "LifecycleNodeMixin.on_configure",
            "LifecycleNodeMixin.on_deactivate",
            "LifecycleNodeMixin.on_error",
            "LifecycleNodeMixin.on_shutdown",
            "LifecycleNodeMixin.trigger_activate",
            "LifecycleNodeMixin.trigger_configure",
        ),
        "rclpy/rclpy/node.py": (
            "Node.self",
            "Node.create_publisher",
            "Node.create_subscription",
            "Node.declare_parameters",
            "Node.destroy_node",
            "Node.destroy_publisher",
            "Node.destroy_subscription",
            "Node.get_clock",
            "Node.get_logger",
            "Node.get_parameter",
            "Node.resolve_topic_name",
        ),
        "rclpy/rclpy/publisher.py": ("Publisher.publish", "Publisher.wait_for_all_acked"),
        "rclpy/rclpy/qos.py": (
            "DurabilityPolicy",
            "HistoryPolicy",
            "QoSProfile.__slots__",
            "ReliabilityPolicy",
        ),
        "rclpy/rclpy/time.py": ("Time.to_msg",),
        "rclpy/rclpy/utilities.py": ("ok",),
        "rclpy/src/rclpy/lifecycle.cpp": ("TransitionCallbackReturnType",),
        "rclpy/src/rclpy/signal_handler.cpp": ("SignalHandlerOptions",),
    },
    "ros2/launch_ros": {
        "launch_ros/launch_ros/actions/lifecycle_node.py": ("LifecycleNode.__init__",),
        "launch_ros/launch_ros/actions/node.py": ("Node.__init__",),
        "launch_ros/launch_ros/event_handlers/on_state_transition.py": ("OnStateTransition.__init__",),
        "launch_ros/launch_ros/events/lifecycle/change_state.py": ("ChangeState.__init__",),
        "launch_ros/launch_ros/parameter_descriptions.py": ("ParameterValue.__init__",),
        "launch_ros/launch_ros/substitutions/find_package.py": ("FindPackage.__init__", "FindPackageShare"),
    },
    "ros2/launch": {
        "launch/launch/actions/declare_launch_argument.py": ("DeclareLaunchArgument.__init__",),
        "launch/launch/actions/emit_event.py": ("EmitEvent.__init__",),
        "launch/launch/actions/execute_local.py": ("ExecuteLocal.__init__",),
        "launch/launch/actions/execute_process.py": ("ExecuteProcess.__init__",),
        "launch/launch/actions/register_event_handler.py": ("RegisterEventHandler.__init__",),
        "launch/launch/events/matchers.py": ("matches_action",),
        "launch/launch/launch_description.py": ("LaunchDescription.__init__",),
        "launch/launch/substitutions/launch_configuration.py": ("LaunchConfiguration.__init__",),
        "launch/launch/substitutions/path_join_substitution.py": ("PathJoinSubstitution.__init__",),
    },
}


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "--git-dir", str(folder), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout


def signature_of(function: ast.FunctionDef) -> str:
    """Its parameters without their types, and "..." for each default."""
    told = function.args
    for each in (*told.posonlyargs, *told.args, *told.kwonlyargs, told.vararg, told.kwarg):
        if each is not None:
            each.annotation = None
    told.defaults = [ast.Constant(...) for _ in told.defaults]
    told.kw_defaults = [default and ast.Constant(...) for default in told.kw_defaults]
    return f"({ast.unparse(told)})"


def names_in(body: list[ast.stmt]) -> list[str]:
    """All methods of a class, and all attributes that they set: names that a subclass must not take by mistake."""
    found = {each.name for each in body if isinstance(each, ast.FunctionDef)}
    for node in (node for each in body for node in ast.walk(each)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found |= {node.attr} if getattr(node.value, "id", "") == "self" else set()
    return sorted(found)


def recorded(text: str, name: str, path: str) -> Any:
    if path.endswith(".cpp"):
        begin = text.index(f'"{name}"')
        return re.findall(r'\.value\(\s*"(\w+)"', text[begin : text.index(";", begin)])
    owner, _, member = name.rpartition(".")
    body = ast.parse(text).body
    if owner:
        body = next(each for each in body if isinstance(each, ast.ClassDef) and each.name == owner).body
    if member == "self":
        return names_in(body)
    found = None
    for each in body:
        if isinstance(each, ast.FunctionDef) and each.name == member:
            found = signature_of(each)  # the last one: those before are overloads
        elif isinstance(each, ast.ClassDef) and each.name == member:
            found = [target.id for line in each.body if isinstance(line, ast.Assign)
                     for target in line.targets if isinstance(target, ast.Name)]  # fmt: skip
        elif isinstance(each, ast.Assign) and getattr(each.targets[0], "id", "") == member:
            found = [word.lstrip("_") for word in ast.literal_eval(each.value)]
    if found is None:
        raise SystemExit(f"{path} has no {name}")
    return found


def main() -> None:
    result: dict[str, Any] = {"sources": [], **{branch: {} for branch in BRANCHES}}
    for (repository, files), folder in zip(USED.items(), map(Path, sys.argv[1:]), strict=True):
        for branch in BRANCHES:
            commit = git(folder, "rev-parse", branch).strip()
            result["sources"].append({"repository": repository, "branch": branch, "commit": commit})
            for path, names in files.items():
                text = git(folder, "show", f"{commit}:{path}")
                for name in names:
                    result[branch][f"{path}:{name}"] = recorded(text, name, path)
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in result.items() if key == "sources"]
    for branch in BRANCHES:
        entries = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in result[branch].items()]
        lines.append(f" {json.dumps(branch)}: {{\n" + ",\n".join(entries) + "\n }")
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    main()
