"""Plans that no bundle holds yet, run one behind the other for whoever builds them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_tensorrt import FakeDevice, FakeTensorRt, fake_library
from part_plans import fake_engines, part_bytes, tensor

from vla_edge.runtime.engines.tensorrt.parts.chain import ChainPart
from vla_edge.runtime.engines.tensorrt.parts.opening import open_chain
from vla_edge.runtime.errors import EngineError

PARTS = (
    ChainPart("first", (tensor("in", 1, 1),), (tensor("mid", 1, 1), tensor("tap", 1, 1))),
    ChainPart("second", (tensor("mid", 1, 1), tensor("more", 1, 1)), (tensor("out", 1, 1),)),
)


@pytest.fixture
def opening() -> Any:
    device = FakeDevice([])
    trt = FakeTensorRt(device, SimpleNamespace(inputs=(), outputs=()))  # type: ignore[arg-type]
    trt.engine = None
    fake_engines(trt, device, PARTS)
    return SimpleNamespace(library=fake_library(trt), device=device)


IMAGES = [part_bytes(part.name) for part in PARTS]


def test_what_no_plan_makes_goes_in_and_what_none_takes_comes_out(opening: Any) -> None:
    with open_chain(opening.library, opening.device, IMAGES) as runner:
        assert (list(runner.inputs), list(runner.outputs)) == (["in", "more"], ["tap", "out"])
        runner.inputs["in"][...], runner.inputs["more"][...] = 3, 4
        runner.run()
        assert runner.outputs["out"] == 7
        assert "CUDA graph" in runner.mode
    assert not opening.device.live


def test_a_tensor_between_can_be_returned_as_well(opening: Any, tmp_path: Path) -> None:
    paths = [tmp_path / part.name for part in PARTS]
    for path, image in zip(paths, IMAGES, strict=True):
        path.write_bytes(image)
    with open_chain(
        opening.library, opening.device, paths, streams=[0, 1], outputs=["mid", "out"], graph=False
    ) as runner:
        runner.inputs["in"][...] = 3
        runner.run()
        assert {name: float(array.flat[0]) for name, array in runner.outputs.items()} == {"mid": 3, "out": 3}


def test_an_output_that_no_plan_makes_is_told(opening: Any) -> None:
    with (
        pytest.raises(EngineError, match=r"No plan makes gone\.") as caught,
        open_chain(opening.library, opening.device, IMAGES, outputs=["gone"]),
    ):
        pass
    assert caught.value.hint == "Name one of mid, out, tap."
    assert not opening.device.live


def test_plans_in_the_wrong_order_are_refused(opening: Any) -> None:
    with (
        pytest.raises(EngineError, match="part 1 needs mid"),
        open_chain(opening.library, opening.device, IMAGES[::-1]),
    ):
        pass


def test_a_plan_that_is_refused_frees_the_ones_before(opening: Any) -> None:
    with (
        pytest.raises(EngineError, match="refuses the engine just built"),
        open_chain(opening.library, opening.device, [IMAGES[0], b"no plan"]),
    ):
        pass
    assert opening.device.log.count("drop runtime") == 2
