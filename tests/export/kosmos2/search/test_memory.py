"""How many frames fit a GPU is told before anything is copied to it."""

from __future__ import annotations

import pytest

from vla_edge.export.kosmos2.sample.sizes import sample_architecture
from vla_edge.export.kosmos2.search.memory import AT_ONCE, BESIDE_BYTES, fitting, frame_bytes, planned
from vla_edge.export.kosmos2.search.space import STEPS
from vla_edge.runtime.errors import ResourceError

GIB = 1 << 30


def test_a_large_gpu_takes_four_episodes_and_no_more() -> None:
    memory = fitting(100 << 20, 7 * GIB, 80 * GIB)
    assert memory.frames_at_once == AT_ONCE == 4 * STEPS
    assert memory.bytes == 7 * GIB + BESIDE_BYTES + AT_ONCE * (100 << 20)


def test_a_smaller_one_takes_what_fits() -> None:
    memory = fitting(100 << 20, 7 * GIB, 13 * GIB)
    assert STEPS <= memory.frames_at_once < AT_ONCE
    assert memory.bytes is not None
    assert memory.bytes <= 13 * GIB


def test_one_that_takes_no_episode_is_refused_with_what_to_do() -> None:
    with pytest.raises(ResourceError, match=r"takes about 11\.8 GiB .* and 8\.0 are free") as raised:
        fitting(100 << 20, 7 * GIB, 8 * GIB)
    assert "--device cpu" in raised.value.hint


def test_a_frame_of_full_size_takes_what_its_largest_layers_do() -> None:
    arch = sample_architecture("hybrid-a", "transformers", "full")
    assert 50 << 20 < frame_bytes(arch) < 150 << 20


def test_a_cpu_runs_episodes_one_by_one() -> None:
    arch = sample_architecture("pure", "none", "tiny")
    assert planned(arch, {}, "cpu").frames_at_once == 1
