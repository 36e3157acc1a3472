"""The node's topics, and how ROS 2's names look on DDS."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from vla_edge.runtime.errors import InputError
from vla_edge.runtime.printable import one_line

NODE = "vla_edge"

_MAX_CHARACTERS = 200
# As ROS 2 has them, absolute: /a/b_1. No part may begin with a digit, none may hold two underscores in a row.
_NAME = re.compile(r"(?:/(?!\d)(?!\w*__)[A-Za-z0-9_]+)+")


@dataclass(frozen=True)
class Topics:
    """What the node listens to, and what it says; absolute names of ROS 2."""

    image: str = "/camera/image/compressed"
    task: str = "/mobile_vla/task"
    control: str = "/mobile_vla/system_control"
    velocity: str = "/cmd_vel"
    status: str = "/mobile_vla/status"
    result: str = "/mobile_vla/inference_result"
    diagnostics: str = "/diagnostics"


def check_topic(name: str) -> str:
    """The name, if it is an absolute one of ROS 2.

    Raises:
        InputError: it is not.
    """
    if len(name) > _MAX_CHARACTERS or not _NAME.fullmatch(name):
        raise InputError(
            f"{one_line(name[:_MAX_CHARACTERS])!r} is no name of a topic.",
            "Write it as /robot/cmd_vel: letters, digits and single underscores, no digit first in a part.",
        )
    return name


def remapped(topics: Topics, rules: Iterable[str]) -> Topics:
    """The topics after rules such as `/cmd_vel:=/robot/cmd_vel`, as ROS 2 writes them.

    Raises:
        InputError: a rule of another form, of a topic that the node has not, two rules of one topic (of which ROS 2
            would take the first), or two topics of one name.
    """
    fields_by_name = {getattr(topics, field.name): field.name for field in fields(topics)}
    changed: dict[str, str] = {}
    for rule in rules:
        old, sign, new = rule.partition(":=")
        if not sign or old not in fields_by_name:
            raise InputError(
                f"{one_line(rule)} cannot be remapped.",
                f"Write FROM:=TO, where FROM is one of {', '.join(fields_by_name)}.",
            )
        if fields_by_name[old] in changed:
            raise InputError(f"{old} is remapped twice.", "Give it one name.")
        changed[fields_by_name[old]] = check_topic(new)
    return check_distinct(replace(topics, **changed))


def check_distinct(topics: Topics) -> Topics:
    """The topics, if each has a name of its own: a node that hears what it says would obey itself.

    Raises:
        InputError: two have the same.
    """
    names = [getattr(topics, field.name) for field in fields(topics)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"two topics of the node would be called {twice[0]}.", "Give each a name of its own."
        )
    return topics


def dds_name(topic: str) -> str:
    """What ROS 2 calls a topic on DDS: "rt" and its absolute name."""
    return f"rt{topic}"
