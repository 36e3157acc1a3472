"""Names of topics: ROS 2's rules, remapping, and what they are on DDS."""

from __future__ import annotations

import pytest

from vla_edge.runtime.errors import InputError
from vla_edge.runtime.ros2.topics import Topics, check_topic, dds_name, remapped


@pytest.mark.parametrize("name", ["/cmd_vel", "/a/b_1/C", "/_x"])
def test_a_name_of_ros_2(name: str) -> None:
    assert check_topic(name) == name
    assert dds_name(name) == f"rt{name}"


@pytest.mark.parametrize(
    "name",
    ["", "/", "cmd_vel", "/cmd_vel/", "/1a", "/a//b", "/a__b", "/a b", "/é", "~/x", "/a\n", "/a" * 200],
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="is no name of a topic"):
        check_topic(name)


def test_a_rule_changes_one_topic() -> None:
    found = remapped(Topics(), ["/cmd_vel:=/base/cmd_vel"])
    assert found.velocity == "/base/cmd_vel"
    assert found.image == Topics().image


@pytest.mark.parametrize("rule", ["/cmd_vel", "/cmd_vel=/x", "/unknown:=/x", ":=/x", ""])
def test_a_rule_of_another_form_is_refused(rule: str) -> None:
    with pytest.raises(InputError, match="cannot be remapped"):
        remapped(Topics(), [rule])


def test_two_topics_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="two topics of the node would be called /mobile_vla/task"):
        remapped(Topics(), ["/mobile_vla/system_control:=/mobile_vla/task"])


def test_two_rules_of_one_topic_are_refused() -> None:
    with pytest.raises(InputError, match="/cmd_vel is remapped twice"):
        remapped(Topics(), ["/cmd_vel:=/a", "/cmd_vel:=/b"])
