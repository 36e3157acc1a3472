"""ROS 2's environment variables, as they reach Cyclone DDS."""

from __future__ import annotations

import pytest

from vla_edge.bench.proof.dds.world import loopback_alone
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.ros2.dds.participant import DdsError, Participant, configuration, domain_id


@pytest.mark.parametrize(("said", "number"), [("", 0), ("7", 7), (" 41 ", 41), ("232", 232)])
def test_a_domain_is_a_number(said: str, number: int) -> None:
    assert domain_id({"ROS_DOMAIN_ID": said}) == number
    assert domain_id({}) == 0


@pytest.mark.parametrize("said", ["233", "-1", "1.0", "x", "٣", "1" * 5000])
def test_what_is_no_domain_is_refused(said: str) -> None:
    with pytest.raises(InputError, match="ROS_DOMAIN_ID"):
        domain_id({"ROS_DOMAIN_ID": said})


def test_a_message_is_bounded_whatever_the_environment() -> None:
    assert f"<MaxSampleSize>{(1 << 20) + (1 << 16)} B</MaxSampleSize>" in configuration({}, 1 << 20)


@pytest.mark.parametrize(
    "environment", [{"ROS_LOCALHOST_ONLY": "1"}, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}]
)
def test_localhost_only_is_loopback_alone(environment: dict[str, str]) -> None:
    told = configuration(environment, 1)
    assert 'NetworkInterface address="127.0.0.1"' in told
    assert "<AllowMulticast>false" in told


@pytest.mark.parametrize("environment", [{}, {"ROS_LOCALHOST_ONLY": "0"}])
def test_without_it_the_network_is_cyclone_s_own_choice(environment: dict[str, str]) -> None:
    assert "NetworkInterface" not in configuration(environment, 1)


def test_the_user_s_own_configuration_has_the_last_word() -> None:
    assert configuration({"CYCLONEDDS_URI": "file:///etc/dds.xml"}, 1).endswith(",file:///etc/dds.xml")


def test_a_range_that_is_not_known_is_refused() -> None:
    with pytest.raises(InputError, match="ROS_AUTOMATIC_DISCOVERY_RANGE is 'OFF'"):
        configuration({"ROS_AUTOMATIC_DISCOVERY_RANGE": "off"}, 1)


def test_a_domain_that_cannot_be_joined_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (loopback_alone() | {"CYCLONEDDS_URI": "<CycloneDDS><No/></CycloneDDS>"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DdsError, match="cannot be joined"):
        Participant(1 << 20)


def test_types_match_by_their_names_whoever_sends_them() -> None:
    told = configuration({}, 1)
    ignored = told.partition("<IgnoreTypeInformation>")[2].partition("<")[0].split(",")
    assert {"1.15", "1.16"} <= set(ignored)  # Fast DDS and Cyclone, which ROS 2 runs on


def test_a_configuration_that_cyclonedds_cannot_take_is_refused() -> None:
    with pytest.raises(InputError, match="takes ASCII alone"):
        configuration({"CYCLONEDDS_URI": "file:///home/로봇/dds.xml"}, 1)


def test_security_that_is_enforced_is_not_passed_over() -> None:
    enforced = {"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_STRATEGY": "Enforce"}
    with pytest.raises(InputError, match="no DDS Security"):
        configuration(enforced, 1)
    assert configuration(enforced | {"ROS_SECURITY_ENABLE": "false"}, 1)
