"""YAML of a few plain tables: nothing that could grow, nest deep, or be said twice."""

from __future__ import annotations

from typing import Any

import yaml

from vla_edge.runtime.errors import InputError
from vla_edge.runtime.foreign import shown

_DEEPEST = 10
_OPENING = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


def read_yaml(text: str, name: str) -> Any:
    """One document.

    Args:
        text: of bounded length.
        name: of where it comes from.

    Raises:
        InputError: anchors or aliases, more levels than parameters need, or a key that stands twice.
        yaml.YAMLError, ValueError: it is no YAML.
    """
    _look_over(text, name)
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    _check_keys(node, name)
    return yaml.safe_load(text)


def _look_over(text: str, name: str) -> None:
    """Before anything recurses: brackets alone, 64 KiB of them, would take PyYAML forty seconds."""
    depth = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        depth += isinstance(token, _OPENING)
        depth -= isinstance(token, _CLOSING)
        if depth > _DEEPEST:
            raise InputError(
                f"{name} nests more than {_DEEPEST} levels deep.", "Write it as docs/ros2.md shows."
            )
        if isinstance(token, (yaml.AnchorToken, yaml.AliasToken)):
            raise InputError(f"{name} has an anchor or alias, which is not read.", "Write the value out.")


def _check_keys(node: yaml.Node | None, name: str) -> None:
    """PyYAML would take the last of two, and say nothing of a deadline that stands in the first."""
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            _check_keys(each, name)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise InputError(
                    f"{name}, line {key.start_mark.line + 1}: {shown(key.value)} stands twice.",
                    "Write it once.",
                )
            seen.add(key.value)
        _check_keys(value, name)
