"""Parameters from a file of ROS 2's form, and the types that ROS 2 would take."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_edge.runtime.errors import InputError
from vla_edge.runtime.ros2.parameters import NodeParameters, parameters_from, read_parameters


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "node.yaml"


def test_the_node_s_own_come_after_those_of_every_node(file: Path) -> None:
    file.write_text(
        "/**:\n  ros__parameters:\n    rate_hz: 5.0\n    deadline_ms: 50.0\n    use_sim_time: false\n"
        "vla_edge:\n  ros__parameters:\n    rate_hz: 20.0\n    autostart: true\n"
        "another:\n  ros__parameters:\n    rate_hz: what it likes\n"
    )
    assert read_parameters(file) == NodeParameters(rate_hz=20.0, deadline_ms=50.0, autostart=True)


def test_a_link_as_colcon_installs_it_is_followed(file: Path, tmp_path: Path) -> None:
    file.write_text("/vla_edge:\n  ros__parameters:\n    instruction: go\n")
    (tmp_path / "link.yaml").symlink_to(file)
    assert read_parameters(tmp_path / "link.yaml").instruction == "go"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no table"),
        ("- 1\n", "holds no table"),
        ("{", "is no YAML"),
        ("a:\n  b: [\n", "line 3 is no YAML: expected the node content"),
        ("[" * 65_000, "nests more than 10 levels deep"),
        ("- " * 32_000, "nests more than 10 levels deep"),
        ("\x00", "is no YAML"),
        ("another:\n  ros__parameters: {}\n", "has no parameters of vla_edge"),
        ("vla_edge:\n  rate_hz: 10.0\n", "vla_edge holds something else than ros__parameters"),
        ("vla_edge:\n  ros__parameters: 3\n", "vla_edge holds something else than ros__parameters"),
        ("vla_edge:\n  ros__parameters:\n    rate: 1.0\n", "there is no parameter 'rate'"),
        ("vla_edge:\n  ros__parameters:\n    1: 1.0\n", "there is no parameter 1"),
        ("vla_edge:\n  ros__parameters:\n    rate_hz: 10\n", "rate_hz is 10.\nGive a number with a point"),
        ("vla_edge:\n  ros__parameters:\n    rate_hz: .nan\n", "rate_hz is nan"),
        ("vla_edge:\n  ros__parameters:\n    camera_ms: -1.0\n", "camera_ms is -1.0"),
        ("vla_edge:\n  ros__parameters:\n    autostart: 1\n", "Give true or false"),
        ("vla_edge:\n  ros__parameters:\n    instruction: [a]\n", "Give text"),
        ("vla_edge:\n  ros__parameters:\n    max_image_bytes: true\n", "Give a whole number"),
        ("vla_edge:\n  ros__parameters:\n    max_image_bytes: 10\n", "Give 1024 to"),
        ("a: &a 1\nvla_edge:\n  ros__parameters: {}\n", "has an anchor or alias"),
        ("vla_edge: !!python/object/apply:os.getcwd []\n", "is no YAML"),
        (
            "vla_edge:\n  ros__parameters:\n    hold_ms: 1.0\n    hold_ms: 9.0\n",
            "line 4: 'hold_ms' stands twice",
        ),
        ("vla_edge:\n  a: 1\nb: 1\nvla_edge:\n  a: 1\n", "line 4: 'vla_edge' stands twice"),
        ("#" * 70_000, "has more than 65536 bytes"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(InputError) as refused:
        read_parameters(file)
    assert words in str(refused.value)
    assert str(file) in str(refused.value)


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(InputError, match=r"node\.yaml cannot be read: No such file"):
        read_parameters(file)


def test_zeros_that_mean_nothing_become_none() -> None:
    options = NodeParameters().run_options(("linear_x",))
    assert (options.acceleration, options.chunk_step_ms) == (None, None)
    assert NodeParameters(deadline_ms=70.0).controller_options().hold_ms == 140.0
    given = parameters_from({"acceleration": 0.5, "hold_ms": 300.0, "chunk_step_ms": 50.0}, "here")
    assert given.run_options(("linear_x",)).acceleration == {"linear_x": 0.5}
    assert given.controller_options().hold_ms == 300.0
