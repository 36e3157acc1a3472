"""A camera that repeats itself or shows nothing stops the robot; one that lives never does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vla_edge.runtime import Controller, ControllerOptions, ImageError, InputError, Policy
from vla_edge.runtime.control.frame_watch import FrameWatch

HEIGHT, WIDTH = 120, 160


def noise(seed: int, low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def scene(seed: int, sigma: float = 1.0) -> np.ndarray:
    """A still scene, seen by a sensor with noise."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    still = np.stack([rows, columns, rows + columns], axis=2) * 0.8
    seen = still + np.random.default_rng(seed).normal(0, sigma, still.shape)
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)


def as_array(frame: np.ndarray, folder: Path) -> Any:
    return frame.copy()


def as_turned_view(frame: np.ndarray, folder: Path) -> Any:
    return np.ascontiguousarray(frame[::-1])[::-1]


def as_image(frame: np.ndarray, folder: Path) -> Any:
    return Image.fromarray(frame)


def as_file(frame: np.ndarray, folder: Path) -> Any:
    path = folder / f"{len(list(folder.iterdir()))}.png"
    Image.fromarray(frame).save(path)
    return path


KINDS = pytest.mark.parametrize("kind", [as_array, as_turned_view, as_image, as_file])
Kind = Callable[[np.ndarray, Path], Any]


def watch() -> FrameWatch:
    return FrameWatch(10, 500.0, 8.0, 1000.0)


def looks_until_refused(frames: Callable[[int], Any], most: int = 60, step_s: float = 0.0) -> int:
    """How many frames pass."""
    watcher, passed = watch(), 0
    with contextlib.suppress(ImageError):
        for at in range(most):
            watcher.look(frames(at), 100 + at * step_s)
            passed += 1
    return passed


@KINDS
def test_a_frame_that_stays_is_refused_whatever_holds_it(kind: Kind, tmp_path: Path) -> None:
    assert looks_until_refused(lambda at: kind(scene(1), tmp_path)) == 11


@KINDS
def test_a_still_scene_seen_by_a_living_sensor_passes(kind: Kind, tmp_path: Path) -> None:
    assert looks_until_refused(lambda at: kind(scene(at, sigma=0.5), tmp_path)) == 60


@pytest.mark.parametrize("buffers", [2, 3, 8])
def test_a_driver_that_hands_out_its_old_buffers_in_turn_is_found(buffers: int) -> None:
    assert looks_until_refused(lambda at: noise(at % buffers)) == buffers + 10


def buffers_alike(sizes: list[int]) -> list[np.ndarray]:
    """Groups of so many frames each; those of a group differ in pixels between the grid's lines only."""
    made = []
    for group, size in enumerate(sizes):
        for at in range(size):
            frame = scene(group)
            frame[1, 1 + at % 2, at % 3] = 17 * at
            made.append(frame)
    return made


@pytest.mark.parametrize("sizes", [[2], [3], [8], [2, 2], [7, 1], [1, 2, 5], [2, 2, 2, 2], [4, 4], [1] * 8])
@pytest.mark.parametrize("seed", range(3))
def test_so_are_buffers_that_differ_in_a_few_pixels_only(sizes: list[int], seed: int) -> None:
    made = buffers_alike(sizes)
    assert len({frame.tobytes() for frame in made}) == len(made)
    order = np.random.default_rng(seed).permutation(len(made))
    assert looks_until_refused(lambda at: scene(100 + at) if at < 20 else made[order[at % len(made)]]) < 60


def test_so_is_a_frozen_pair_of_a_dark_room_with_a_lit_window() -> None:
    def night(seed: int) -> np.ndarray:
        frame = np.clip(np.random.default_rng(seed).normal(-3, 1, (HEIGHT, WIDTH, 3)), 0, 255).astype(
            np.uint8
        )
        frame[30:50, 80:105] = 255
        return frame

    pair = night(1), night(2)
    assert looks_until_refused(lambda at: pair[at % 2]) < 20
    assert looks_until_refused(night) == 60


def test_an_array_that_the_driver_fills_again_is_judged_by_its_content() -> None:
    frame = scene(0)

    def filled(at: int) -> np.ndarray:
        frame[...] = scene(min(at, 5))
        return frame

    assert looks_until_refused(filled) == 16


def test_a_change_of_one_pixel_between_the_grids_lines_is_news() -> None:
    frame = scene(0)

    def changed(at: int) -> np.ndarray:
        frame[1, 1, 0] = at
        return frame

    assert looks_until_refused(changed) == 60


def test_a_loop_ten_times_as_fast_as_its_camera_passes() -> None:
    assert looks_until_refused(lambda at: noise(at // 10), step_s=0.01) == 60


@pytest.mark.parametrize(("rate_hz", "passed"), [(30, 11), (10, 6), (5, 3), (1, 3)])
def test_a_slow_loop_is_stopped_by_time(rate_hz: float, passed: int) -> None:
    assert looks_until_refused(lambda at: scene(0), step_s=1 / rate_hz) == passed


@pytest.mark.parametrize("pause_s", [0.6, 5.0, 3600.0])
@pytest.mark.parametrize("repeats", [1, 2])
def test_a_pause_of_the_loop_is_no_silence_of_the_camera(pause_s: float, repeats: int) -> None:
    watcher = watch()
    for at in range(40):
        for again in range(1 + repeats):
            watcher.look(noise(at), at * (pause_s + 1) + (pause_s + 0.03 * again if again else 0))


@pytest.mark.parametrize("gap_s", [0.6, 2.0])
def test_a_slow_loop_that_sees_each_frame_twice_passes(gap_s: float) -> None:
    assert looks_until_refused(lambda at: noise(at // 2), step_s=gap_s) == 60


def wall(seed: int, level: float = 200, sigma: float = 0.8, slope: float = 4) -> np.ndarray:
    """A plain wall that fills the view, in even light, seen by a sensor with noise."""
    light = np.linspace(0, slope, WIDTH)[None, :, None]
    seen = light + np.random.default_rng(seed).normal(level, sigma, (HEIGHT, WIDTH, 3))
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)


@KINDS
@pytest.mark.parametrize(
    ("level", "sigma", "slope"), [(200, 0.8, 4), (90, 0.8, 0), (60, 0.5, 1), (230, 1, 3)]
)
def test_a_plain_wall_passes_for_a_while(
    kind: Kind, tmp_path: Path, level: float, sigma: float, slope: float
) -> None:
    passed = looks_until_refused(
        lambda at: kind(wall(at, level, sigma, slope), tmp_path), most=50, step_s=1 / 30
    )
    assert passed == 31  # a second


def test_walls_with_something_else_to_see_between_them_pass() -> None:
    assert looks_until_refused(lambda at: scene(at) if at % 20 == 0 else wall(at), step_s=1 / 30) == 60


def test_a_wall_that_repeats_itself_is_refused_as_anything_else() -> None:
    assert looks_until_refused(lambda at: wall(0), step_s=0.001) == 11


def test_how_long_a_wall_may_be_seen_can_be_set() -> None:
    controller, _ = make(plain_ms=None)
    assert not any(controller.step(wall(at)).stopped for at in range(60))
    controller, _ = make(plain_ms=1e-6)
    commands = [controller.step(wall(at)) for at in range(5)]
    assert "plain wall?" not in commands[-1].reason
    assert "the frame shows nothing: its pixels span" in commands[-1].reason


@pytest.mark.parametrize("level", [-2, 0, 3, 16, 25, 252, 256])
def test_a_covered_or_blinded_lens_is_refused_at_once_though_its_noise_lives(level: float) -> None:
    assert looks_until_refused(lambda at: wall(at, level, 0.8, 1)) == 0


def stripes(period: int) -> np.ndarray:
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[:, ::period] = 255
    return frame


def with_hot_pixels() -> np.ndarray:
    frame = noise(2, 0, 4)
    frame[np.random.default_rng(5).random((HEIGHT, WIDTH)) < 0.002] = 255
    return frame


@KINDS
@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        np.full((HEIGHT, WIDTH, 3), 255, np.uint8),
        np.full((HEIGHT, WIDTH, 3), (0, 255, 0), np.uint8),
        noise(1, 0, 7),
        noise(1, 250, 256),
        with_hot_pixels(),
    ],
    ids=["black", "white", "green", "covered, with noise", "blinded, with noise", "hot pixels"],
)
def test_a_frame_that_shows_nothing_is_refused_at_once(kind: Kind, tmp_path: Path, frame: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"the frame shows nothing: its pixels span \d+ of 256") as raised:
        watch().look(kind(frame, tmp_path), 0.0)
    assert "least_contrast" in raised.value.hint


@pytest.mark.parametrize("frame", [stripes(2), stripes(8), scene(0) // 8, noise(0, 0, 12)])
def test_a_dim_or_striped_frame_passes(frame: np.ndarray) -> None:
    watch().look(frame, 0.0)


@pytest.mark.parametrize("frame", [None, "gone.png", 3, noise(0)[..., 0], noise(0) / 255, noise(0)[:0]])
def test_what_is_no_frame_is_left_to_the_policy(frame: Any) -> None:
    watcher = watch()
    for _ in range(30):
        assert watcher.look(frame, 0.0) is frame


def make(**options: Any) -> tuple[Controller, list[Any]]:
    given: list[Any] = []
    action = SimpleNamespace(names=("x",), values=(0.5,))
    manifest = SimpleNamespace(action=SimpleNamespace(names=("x",), limit=(1.0,)))

    def act(frame: Any, instruction: str | None) -> Any:
        given.append(frame)
        return action

    policy = SimpleNamespace(manifest=manifest, act=act, reset=lambda: None)
    return Controller(policy, ControllerOptions(deadline_ms=1e6, **options)), given  # type: ignore[arg-type]


@pytest.mark.parametrize("dead", [scene(3), np.zeros((HEIGHT, WIDTH, 3), np.uint8)])
def test_by_default_a_dead_camera_is_a_fault_until_reset(dead: np.ndarray) -> None:
    controller, given = make()
    commands = [controller.step(dead) for _ in range(200)]
    assert commands[-1].stopped
    assert len(given) <= 11
    assert controller.current().stopped
    assert controller.step(scene(4)).stopped
    controller.reset()
    assert not controller.step(scene(4)).stopped


def test_both_can_be_switched_off_for_a_simulator() -> None:
    controller, given = make(repeats_allowed=None, repeats_ms=None, least_contrast=None)
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    assert not any(controller.step(black).stopped for _ in range(100))
    assert given[0] is black


def test_a_file_is_decoded_once_and_what_was_judged_is_acted_on(tmp_path: Path) -> None:
    controller, given = make()
    path = as_file(scene(1), tmp_path)
    assert not controller.step(path).stopped
    assert np.array_equal(np.asarray(given[0]), scene(1))


@KINDS
def test_a_policy_that_holds_its_first_action_stops_for_a_dead_camera_too(
    kind: Kind, tmp_path: Path, make_bundle: Callable[..., Path]
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    with Policy.load(make_bundle(frame="first")) as policy:
        controller = Controller(policy, ControllerOptions(deadline_ms=10_000, repeats_ms=None))
        commands = [controller.step(kind(scene(0), folder)) for _ in range(12)]
    assert [command.stopped for command in commands] == [False] * 11 + [True]
    assert "repeats itself" in commands[-1].reason


@pytest.mark.parametrize(
    "options",
    [
        *({"repeats_allowed": bad} for bad in (-1, 1.5, "10", True)),
        *({"repeats_ms": bad} for bad in (0, -1, float("nan"), float("inf"), "1")),
        *({"plain_ms": bad} for bad in (0, -1, float("nan"), float("inf"), "1")),
        *({"least_contrast": bad} for bad in (0, -1, 256, float("nan"), "8")),
    ],
)
def test_limits_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="cannot be used"):
        make(**options)
