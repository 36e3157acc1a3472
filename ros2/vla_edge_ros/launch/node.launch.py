"""Start the node, configure it (the policy is loaded, which may take minutes), then activate it.

ros2 launch vla_edge_ros node.launch.py bundle:=/robot/engines/current
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

PACKAGE = "vla_edge_ros"


def generate_launch_description():
    defaults = PathJoinSubstitution([FindPackageShare(PACKAGE), "config", "node.yaml"])
    node = LifecycleNode(
        package=PACKAGE,
        executable="node",
        name="vla_edge",
        namespace="",
        output="screen",
        parameters=[
            LaunchConfiguration("params_file"),
            {"bundle": ParameterValue(LaunchConfiguration("bundle"), value_type=str)},
        ],
        remappings=[
            ("/camera/image/compressed", LaunchConfiguration("image")),
            ("/cmd_vel", LaunchConfiguration("cmd_vel")),
        ],
        # its loop's last command is a stop: it is given the time
        sigterm_timeout="10",
    )
    activate = EmitEvent(
        event=ChangeState(
            lifecycle_node_matcher=matches_action(node), transition_id=Transition.TRANSITION_ACTIVATE
        )
    )
    configure = EmitEvent(
        event=ChangeState(
            lifecycle_node_matcher=matches_action(node), transition_id=Transition.TRANSITION_CONFIGURE
        )
    )
    when_configured = OnStateTransition(
        target_lifecycle_node=node, start_state="configuring", goal_state="inactive", entities=[activate]
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("bundle", description="The folder of a bundle."),
            DeclareLaunchArgument("params_file", default_value=defaults),
            DeclareLaunchArgument("image", default_value="/camera/image/compressed"),
            DeclareLaunchArgument("cmd_vel", default_value="/cmd_vel"),
            RegisterEventHandler(when_configured),
            node,
            configure,
        ]
    )
