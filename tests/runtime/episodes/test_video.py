"""Videos as episodes: every frame once and in order, and what is no video of frames that can be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from episode_files import even_frames, frames_of, numbers_seen, write_video

from vla_edge.runtime.episodes.episode import Episode
from vla_edge.runtime.episodes.opening import open_episodes
from vla_edge.runtime.episodes.scenarios import LEFT
from vla_edge.runtime.errors import EpisodeError, ImageError

COUNT = 12


def only(path: Path) -> Episode:
    (episode,) = open_episodes(path)
    return episode


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".mp4", "libx264"), (".mov", "mpeg4"), (".mkv", "libx264"), (".webm", "libvpx-vp9"), (".avi", "mjpeg")],
)
def test_every_frame_comes_once_and_in_order(tmp_path: Path, suffix: str, codec: str) -> None:
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(tmp_path / f"drive{suffix}", even_frames(), codec=codec, pixels=pixels)
    episode = only(path)
    assert (episode.frame_count, episode.instruction, episode.actions) == (COUNT, None, None)
    np.testing.assert_allclose(episode.times_s, np.arange(COUNT) / 10, atol=2e-3)
    assert numbers_seen(episode.frames()) == list(range(COUNT))
    assert numbers_seen(episode.frames(5)) == list(range(5, COUNT))
    assert next(episode.frames()).shape == (48, 64, 3)


def test_a_csv_of_the_same_name_has_its_actions(tmp_path: Path) -> None:
    path = write_video(tmp_path / "1box_vert_left.mp4", even_frames())
    lines = ["linear_x [m/s],angular_z [rad/s]", *(f"{at / 10},-1e-1" for at in range(COUNT))]
    (tmp_path / "1box_vert_left.csv").write_text("\n".join(lines))
    episode = only(path)
    assert episode.instruction == LEFT
    assert episode.actions is not None
    assert episode.actions.names == ("linear_x", "angular_z")
    assert episode.actions.units == ("m/s", "rad/s")
    np.testing.assert_allclose(episode.actions.values[:, 0], np.arange(COUNT) / 10)


CSVS = {
    "no header": ("0.1,0.2\n" * 13, "has no header of actions"),
    "an empty line": ("\n", "has no header of actions"),
    "one name twice": ("x,x\n" + "1,2\n" * 12, "two columns of one name"),
    "a row less": ("x\n" + "1\n" * 11, "has 11 rows, for 12 frames"),
    "rows without end": ("x\n" + "1\n" * 10_000, "has more than 12 rows, for 12 frames"),
    "a word": ("x\n" + "1\n" * 3 + "=cmd()\n" + "1\n" * 8, r"line 5: not 1 numbers"),
    "a cell too many": ("x\n" + "1,2\n" * 12, "line 2: not 1 numbers"),
    "NaN": ("x\n" + "1\n" * 11 + "nan\n", "not finite, at step 11"),
    "no text": (b"\xff\xfe\0", "cannot be read as CSV"),
    "a cell without end": ("x" * 200_000, "cannot be read as CSV"),
}


@pytest.mark.parametrize(("content", "words"), CSVS.values(), ids=CSVS)
def test_a_csv_that_does_not_fit_is_refused_by_name(tmp_path: Path, content: str | bytes, words: str) -> None:
    path = write_video(tmp_path / "a.mp4", even_frames())
    (tmp_path / "a.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(EpisodeError, match=rf"a\.csv.*{words}"):
        only(path)


def test_units_that_only_some_columns_have_are_none(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", even_frames())
    (tmp_path / "a.csv").write_text("x [m/s],y\n" + "1,2\n" * 12)
    actions = only(path).actions
    assert actions is not None
    assert actions.units is None


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("head", ["at its end", "at its beginning"])
def test_a_truncated_video_is_refused_by_name(tmp_path: Path, kept: float, head: str) -> None:
    flags = {"movflags": "faststart"} if head == "at its beginning" else {}
    path = write_video(tmp_path / "short.mp4", frames_of(count=COUNT), **flags)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(EpisodeError, match=r"short\.mp4"):
        list(only(path).frames())


def test_fewer_frames_than_the_head_tells_are_not_a_shorter_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "short.mp4", frames_of(count=COUNT), movflags="faststart")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 4 // 5])
    with pytest.raises(EpisodeError, match=r"short\.mp4 ends after \d+ of its 12 frames"):
        only(path)


def test_a_damaged_frame_is_an_error_in_its_place(tmp_path: Path) -> None:
    import av

    path = write_video(tmp_path / "bad.mp4", frames_of(count=COUNT))
    with av.open(str(path)) as container:
        begins = [packet.pos for packet in container.demux() if packet.size]
    data = bytearray(path.read_bytes())
    data[begins[8] : begins[8] + 8] = b"\xff" * 8  # the length of its unit, and what it is
    path.write_bytes(data)
    taken = only(path).frames()
    next(taken)
    with pytest.raises(EpisodeError, match=r"bad\.mp4 cannot be read as a video"):
        list(taken)


def test_a_frame_of_more_than_eight_bits_is_not_cut(tmp_path: Path) -> None:
    path = write_video(tmp_path / "deep.mkv", even_frames(), codec="ffv1", pixels="yuv420p10le")
    with pytest.raises(EpisodeError, match=r"deep\.mkv has more than 8 bits a channel"):
        next(only(path).frames())


def test_frames_too_small_for_a_camera_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "tiny.mkv", even_frames(height=4, width=4), codec="ffv1")
    with pytest.raises(ImageError, match=r"a frame of .*tiny\.mkv is 4x4 pixels"):
        only(path)


def test_a_list_of_other_files_is_no_video(tmp_path: Path) -> None:
    write_video(tmp_path / "secret.mp4", even_frames())
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile '{tmp_path}/secret.mp4'\n")
    (tmp_path / "hls.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/secret.mp4\n#EXT-X-ENDLIST\n")
    for name in ("list.mp4", "hls.mp4"):
        with pytest.raises(EpisodeError, match="holds no recording"):
            open_episodes(tmp_path / name)


def test_sound_alone_is_no_episode(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(EpisodeError, match=r"sound\.mkv holds no video"):
        only(tmp_path / "sound.mkv")


def test_a_video_in_the_middle_that_is_none_leaves_the_others(tmp_path: Path) -> None:
    for number in range(3):
        write_video(tmp_path / f"{number}.mp4", even_frames())
    (tmp_path / "1.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(500))
    episodes = open_episodes(tmp_path, skip_broken=True)
    assert [episode.name for episode in episodes] == ["0.mp4", "2.mp4"]
    assert "1.mp4" in episodes.broken["1.mp4"].problem
