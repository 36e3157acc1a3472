"""One participant of a DDS domain, configured as ROS 2 would be by its environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from cyclonedds.core import DDSException
from cyclonedds.domain import Domain, DomainParticipant

from vla_edge.runtime.errors import InputError, VlaError
from vla_edge.runtime.printable import one_line

_MOST_DOMAIN_ID = 232  # RTPS' port numbers end there
_HEADERS_BYTES = 1 << 16  # of a message, beside what is in it
_SHOWN = 80
_RANGES = ("", "SUBNET", "SYSTEM_DEFAULT", "LOCALHOST")

# Beside this machine, nothing. As rmw_cyclonedds has it, and where no multicast is.
_LOCALHOST = (
    '<General><Interfaces><NetworkInterface address="127.0.0.1" multicast="false"/></Interfaces>'
    "<AllowMulticast>false</AllowMulticast></General>"
    "<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>32</MaxAutoParticipantIndex>"
    '<Peers><Peer address="127.0.0.1"/></Peers></Discovery>'
)


# Readers and writers match by the names of their types alone, as ROS 2's own do: Cyclone cannot use the descriptions
# that Fast DDS 3 (ROS 2 Kilted) sends of types with sequences, and would not hear its images. Of all vendors.
_BY_NAME = (
    "<Compatibility><IgnoreTypeInformation>"
    + ",".join(f"1.{vendor}" for vendor in range(1, 33))
    + "</IgnoreTypeInformation></Compatibility>"
)


class DdsError(VlaError):
    """The network cannot be joined or used."""


def domain_id(environment: Mapping[str, str]) -> int:
    """ROS_DOMAIN_ID, 0 where it is not set.

    Raises:
        InputError: it is no number from 0 to 232.
    """
    said = environment.get("ROS_DOMAIN_ID", "").strip() or "0"
    if not (said.isascii() and said.isdigit() and len(said) < 4 and int(said) <= _MOST_DOMAIN_ID):
        raise InputError(
            f"ROS_DOMAIN_ID is {one_line(said[:40])!r}.", f"Give a whole number from 0 to {_MOST_DOMAIN_ID}."
        )
    return int(said)


def configuration(environment: Mapping[str, str], most_bytes: int) -> str:
    """What Cyclone DDS is told; CYCLONEDDS_URI comes last and so has the last word.

    Args:
        environment: with ROS_LOCALHOST_ONLY or ROS_AUTOMATIC_DISCOVERY_RANGE, and CYCLONEDDS_URI.
        most_bytes: of one message. Cyclone drops what is larger as soon as its first fragment tells so, before it
            takes memory for it; by itself it would take 2 GiB.

    Raises:
        InputError: a range of discovery that is not known here, a configuration that cannot be passed on, or
            security that is enforced.
    """
    _refuse_enforced_security(environment)
    reach = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").strip().upper()
    if reach not in _RANGES:
        raise InputError(
            f"ROS_AUTOMATIC_DISCOVERY_RANGE is {one_line(reach[:40])!r}, which is not known here.",
            "Give SUBNET or LOCALHOST, or configure Cyclone DDS by CYCLONEDDS_URI.",
        )
    local = environment.get("ROS_LOCALHOST_ONLY", "").strip() == "1" or reach == "LOCALHOST"
    bound = f"<Internal><MaxSampleSize>{most_bytes + _HEADERS_BYTES} B</MaxSampleSize></Internal>"
    ours = f"<CycloneDDS><Domain>{_LOCALHOST if local else ''}{_BY_NAME}{bound}</Domain></CycloneDDS>"
    theirs = environment.get("CYCLONEDDS_URI", "").strip()
    if not theirs.isascii():
        raise InputError(
            f"CYCLONEDDS_URI is {one_line(theirs[:_SHOWN])!r}, and cyclonedds takes ASCII alone.",
            "Name a file whose path has no other letters.",
        )
    return f"{ours},{theirs}" if theirs else ours


def _refuse_enforced_security(environment: Mapping[str, str]) -> None:
    """ROS 2's own nodes would not begin without their keys; this one would, and be heard by nobody who has some."""
    wanted = (environment.get("ROS_SECURITY_ENABLE"), environment.get("ROS_SECURITY_STRATEGY"))
    if wanted == ("true", "Enforce"):
        raise InputError(
            "ROS_SECURITY_STRATEGY is Enforce, and there is no DDS Security in cyclonedds.",
            "Take vla-node --transport rclpy where ROS 2 is installed.",
        )


class Participant:
    """Joined to the domain of ROS_DOMAIN_ID until it is closed; one at a time in a process.

    Args:
        most_bytes: of one message.

    Raises:
        InputError: an environment variable that cannot be used.
        DdsError: the domain cannot be joined.
    """

    def __init__(self, most_bytes: int) -> None:
        number = domain_id(os.environ)
        told = configuration(os.environ, most_bytes)
        try:
            self._domain: Any = Domain(number, told)
            self.entity: Any = DomainParticipant(number)
        except DDSException as error:
            raise DdsError(
                f"DDS domain {number} cannot be joined: {error}",
                "Check ROS_DOMAIN_ID, CYCLONEDDS_URI and the network; Cyclone's own words stand above.",
            ) from error

    def close(self) -> None:
        """Leave; its readers and writers are to be gone."""
        self.entity = None
        self._domain = None
