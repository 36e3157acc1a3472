"""Golden frames from recordings: which, with what instruction, and what is said of those that cannot be used."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_files import Said, raw_image, twist, write_bag

from vla_edge.export.bundle.samples.followed import Instructions
from vla_edge.export.bundle.samples.frames import GoldenFrames
from vla_edge.export.bundle.samples.recorded import RUN_IN, RecordedSamples, Use, recorded_frames
from vla_edge.export.sample.episodes import EpisodeSamples, write_episodes
from vla_edge.export.screen.reporter import Silent
from vla_edge.runtime.bundle.manifest import Camera, Preprocessing
from vla_edge.runtime.episodes.episode import Episode
from vla_edge.runtime.episodes.opening import Choice, open_episodes
from vla_edge.runtime.episodes.scenarios import LEFT, OTHER, RIGHT
from vla_edge.runtime.errors import EpisodeError, InputError
from vla_edge.runtime.preprocess import Preprocessor

SPEC = Preprocessing(
    height=28,
    width=28,
    color="rgb",
    fit="squash",
    resample="bilinear",
    antialias=True,
    scale=1 / 255,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
USE = Use(SPEC, first_frames=False, carries=False)
DECLARED = Instructions((OTHER, LEFT, RIGHT), OTHER)
SAMPLES = EpisodeSamples(count=12, frames=9, height=48, width=64, seed=0)


class Collecting(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve episodes, left and right in turn. Do not write to them."""
    folder = tmp_path_factory.mktemp("recorded") / "kitchen"
    write_episodes(folder, SAMPLES)
    return folder


@pytest.fixture
def copied(recordings: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "kitchen"
    folder.mkdir()
    for file in recordings.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


Take = Callable[..., GoldenFrames]


@pytest.fixture
def reporter() -> Collecting:
    return Collecting()


@pytest.fixture
def take(reporter: Collecting) -> Take:
    def run(
        path: Path, use: Use = USE, instructions: Instructions = DECLARED, **asked: object
    ) -> GoldenFrames:
        return recorded_frames(RecordedSamples(path, **asked), use, instructions, reporter)  # type: ignore[arg-type]

    return run


def prepared(path: Path, at: int) -> np.ndarray:
    """A frame of an episode as a robot sees it."""
    (episode,) = open_episodes(path)
    out = np.empty((3, 28, 28), np.float32)
    Preprocessor(SPEC)(next(episode.frames(at)), out)
    return out


def test_nobody_asks_which_velocities_are_meant(take: Take, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    said = [Said("/front", at, raw_image(rng.integers(0, 256, (8, 8, 3), np.uint8))) for at in range(9)]
    said += [Said(topic, 0.0, twist(1.0, 0.0, 0.0)) for topic in ("/cmd_vel", "/cmd_vel_nav")]
    write_bag(tmp_path / "bag", said)
    assert len(take(tmp_path / "bag", choice=Choice(actions=False)).names) == 9


def test_a_sample_says_which_frame_it_is_and_is_that_frame_as_the_robot_sees_it(
    recordings: Path, take: Take, reporter: Collecting
) -> None:
    taken = take(recordings)
    assert taken.names[:3] == (
        "episode_000_1box_vert_left.h5 frame 0",
        "episode_001_1box_vert_right.h5 frame 0",
        "episode_002_1box_hori_left.h5 frame 2",
    )
    for name, pixels, instruction in zip(taken.names, taken.pixels, taken.instructions, strict=True):
        episode, _, frame = name.partition(" frame ")
        np.testing.assert_array_equal(pixels, prepared(recordings / episode, int(frame)))
        assert instruction == (LEFT if "left" in episode else RIGHT)
    assert taken.origin == "frames of 10 of 12 episodes in kitchen"
    assert taken.before == ()
    assert reporter.notes == []


def test_the_same_recordings_give_the_same_frames(recordings: Path, take: Take) -> None:
    one, other = take(recordings), take(recordings)
    assert one.names == other.names
    np.testing.assert_array_equal(one.pixels, other.pixels)


def test_as_many_as_asked_and_from_a_single_recording_too(recordings: Path, take: Take) -> None:
    assert len(take(recordings, count=25).names) == 25
    single = take(recordings / "episode_003_1box_hori_right.h5")
    assert single.names == tuple(f"episode_003_1box_hori_right.h5 frame {at}" for at in range(9))


def test_carried_state_comes_from_the_frames_before(recordings: Path, take: Take) -> None:
    taken = take(recordings, Use(SPEC, first_frames=False, carries=True))
    for name, before in zip(taken.names, taken.before, strict=True):
        episode, _, frame = name.partition(" frame ")
        assert len(before) == min(int(frame), RUN_IN)
        for back, pixels in enumerate(reversed(before), 1):
            np.testing.assert_array_equal(pixels, prepared(recordings / episode, int(frame) - back))
    assert max(map(len, taken.before)) == RUN_IN


def test_a_policy_of_first_frames_has_nothing_before_them(recordings: Path, take: Take) -> None:
    taken = take(recordings, Use(SPEC, first_frames=True, carries=True))
    assert all(name.endswith(" frame 0") for name in taken.names)
    assert not any(map(len, taken.before))


def test_a_policy_without_text_takes_frames_of_all(recordings: Path, take: Take) -> None:
    taken = take(recordings, instructions=Instructions())
    assert taken.instructions == ()
    assert len(taken.names) == 10


def test_what_nobody_declared_is_refused_with_the_options_that_declare_it(
    recordings: Path, take: Take
) -> None:
    with pytest.raises(InputError) as caught:
        take(recordings, instructions=Instructions((OTHER, LEFT), OTHER))
    assert caught.value.problem == (
        "the bundle would not hold what recorded episodes follow: "
        f"{RIGHT!r} (episode_001_1box_vert_right.h5 and 5 more); it would hold {OTHER!r}, {LEFT!r}."
    )
    assert f"--instruction '{LEFT}' --instruction '{RIGHT}'" in caught.value.hint


def test_episodes_of_what_was_not_chosen_are_left_out_and_named(
    recordings: Path, take: Take, reporter: Collecting
) -> None:
    taken = take(recordings, instructions=Instructions((LEFT,), LEFT, chosen=True))
    assert set(taken.instructions) == {LEFT}
    assert reporter.notes == [
        f"left out, since the bundle does not hold {RIGHT!r} (episode_001_1box_vert_right.h5 and 5 more)"
    ]


def test_a_choice_that_no_episode_follows_is_refused(recordings: Path, take: Take) -> None:
    with pytest.raises(InputError, match=r"would not hold .* it would hold 'go left'\."):
        take(recordings, instructions=Instructions(("go left",), "go left", chosen=True))


def test_many_undeclared_ones_are_for_a_settings_file() -> None:
    episodes = [
        Episode(f"{at}.h5", Path(f"{at}.h5"), f"task {at}", 1, None, None, lambda start: iter(()))
        for at in range(8)
    ]
    with pytest.raises(InputError, match=r"'task 4' \(4.h5\) and 3 more; it would hold 'go'") as caught:
        Instructions(("go",), "go").followed(episodes, print)
    assert "settings file" in caught.value.hint
    assert "--keep-vocabulary" in caught.value.hint


def test_a_bundle_that_takes_any_instruction_takes_those_of_the_episodes(
    recordings: Path, take: Take
) -> None:
    taken = take(recordings, instructions=Instructions(("go left",), "go left", grow=True))
    assert set(taken.instructions) == {LEFT, RIGHT}


def test_too_few_frames_are_refused(tmp_path: Path, take: Take) -> None:
    write_episodes(tmp_path / "few", EpisodeSamples(count=2, frames=3, height=48, width=64, seed=0))
    with pytest.raises(InputError, match=r"few holds 6 usable frames; golden samples need at least eight"):
        take(tmp_path / "few")


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def damaged_inside(path: Path) -> None:
    """Opens as before; a frame that is chosen cannot be unpacked."""
    import h5py

    with h5py.File(path, "r") as file:
        place = file["images"].id.get_chunk_info_by_coord((0, 0, 0, 0))
    data = bytearray(path.read_bytes())
    data[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncated, damaged_inside])
def test_a_broken_recording_is_named_and_left_out_on_request_alone(
    copied: Path, take: Take, reporter: Collecting, damage: Callable[[Path], None]
) -> None:
    broken = copied / "episode_001_1box_vert_right.h5"
    damage(broken)
    with pytest.raises(EpisodeError, match=str(broken)):
        take(copied)
    taken = take(copied, skip_broken=True)
    assert len(taken.names) == 10
    assert not any(broken.name in name for name in taken.names)
    assert taken.origin == "frames of 10 of 12 episodes in kitchen"
    (note,) = reporter.notes
    assert note.startswith(f"left out: {broken} ")


def test_an_images_folder_is_a_recording_too(tmp_path: Path, take: Take) -> None:
    from PIL import Image

    for at in range(12):
        Image.fromarray(np.full((40, 60, 3), 20 * at, np.uint8)).save(tmp_path / f"{at}.png")
    taken = take(tmp_path)
    assert taken.instructions == (None,) * 10
    assert taken.names[-1].endswith(" frame 11")


def test_of_a_bag_with_several_topics_the_chosen_ones_are_taken(tmp_path: Path, take: Take) -> None:
    said = []
    for at in range(9):
        for topic, level in (("/front", 10 * at), ("/back", 200)):
            pixels = np.full((48, 64, 3), level, np.uint8)
            said.append(Said(topic, 1 + 0.1 * at, raw_image(pixels)))
        said += [Said(topic, 1.05 + 0.1 * at, twist(0.5, 0.0, 0.0)) for topic in ("/cmd_vel", "/safe_vel")]
    bag = write_bag(tmp_path / "drive", said).parent
    with pytest.raises(EpisodeError, match="/front"):
        take(bag)
    taken = take(bag, choice=Choice("/front", "/cmd_vel"))
    assert taken.names == tuple(f"drive frame {at}" for at in range(9))
    assert len({float(pixels.mean()) for pixels in taken.pixels}) == 9


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_frames_of_the_cameras_size_are_taken_as_they_are(
    recordings: Path, take: Take, channels: Any
) -> None:
    (episode,) = open_episodes(recordings / "episode_000_1box_vert_left.h5")
    height, width, _ = next(episode.frames()).shape
    camera = Camera(height=height, width=width, channels=channels)
    taken, plain = take(recordings, replace(USE, carries=True, camera=camera)), take(recordings)
    assert taken.frames is not None
    assert taken.names == plain.names
    assert taken.resized == ""
    np.testing.assert_array_equal(taken.pixels, plain.pixels)
    assert max(map(len, taken.before)) == RUN_IN
    for name, frame in zip(taken.names, taken.frames, strict=True):
        recorded, _, at = name.partition(" frame ")
        (episode,) = open_episodes(recordings / recorded)
        seen = next(episode.frames(int(at)))
        np.testing.assert_array_equal(frame, seen if channels == "rgb" else seen[:, :, ::-1])


def test_frames_of_another_size_are_resized_to_the_camera_first_and_one_is_named(
    recordings: Path, take: Take
) -> None:
    taken = take(recordings, replace(USE, camera=Camera(height=33, width=47, channels="rgb")))
    assert taken.frames is not None
    assert taken.frames.shape == (10, 33, 47, 3)
    assert taken.resized.startswith("episode_000_1box_vert_left.h5 of ")
    out = np.empty((3, 28, 28), np.float32)
    for frame, pixels in zip(taken.frames, taken.pixels, strict=True):
        Preprocessor(SPEC)(frame, out)
        np.testing.assert_array_equal(pixels, out)


def test_more_frames_than_a_bundle_holds_are_refused(recordings: Path, take: Take) -> None:
    with pytest.raises(InputError, match="25 frames of 4096 by 4096 pixels take"):
        take(recordings, replace(USE, camera=Camera(height=4096, width=4096, channels="rgb")), count=25)
