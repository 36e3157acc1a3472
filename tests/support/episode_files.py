"""Recordings written by the libraries of their formats, small ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

HEIGHT, WIDTH, FRAMES = 24, 32, 6


def frames_of(seed: int = 0, count: int = FRAMES) -> np.ndarray:
    """uint8 [count, 24, 32, 3], each frame unlike the others."""
    return np.random.default_rng(seed).integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8)


def actions_of(seed: int = 0, count: int = FRAMES) -> np.ndarray:
    """float32 [count, 3]"""
    return np.random.default_rng(seed).uniform(-1.15, 1.15, (count, 3)).astype(np.float32)


def write_hdf5(path: Path, seed: int = 0, **images: Any) -> Path:
    """An episode as the robot recorded it; `images` are options of h5py's `create_dataset`."""
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=frames_of(seed), **images)
        file["actions"] = actions_of(seed)
        file["action_event_types"] = [b"episode_start", *[b"start_action"] * (FRAMES - 1)]
        file.attrs["episode_name"] = path.stem
        file.attrs["num_frames"] = FRAMES
        file.attrs["total_duration"] = 1.8
    return path


def write_video(
    path: Path, frames: np.ndarray, *, codec: str = "libx264", pixels: str = "yuv420p", **options: str
) -> Path:
    """A video of frames uint8 [T, H, W, 3], ten a second; the container is that of the suffix, with its options."""
    import av

    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        stream.codec_context.gop_size = 4
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def even_frames(count: int = 12, height: int = 48, width: int = 64) -> np.ndarray:
    """uint8 [count, height, width, 3], each of one colour that tells its number: 20 for each, on red."""
    frames = np.full((count, height, width, 3), 60, np.uint8)
    frames[..., 0] = 20 * np.arange(count)[:, None, None]
    return frames


def numbers_seen(frames: Any) -> list[int]:
    """The numbers of `even_frames`, whatever a codec made of their colours."""
    return [round(float(frame[..., 0].mean()) / 20) for frame in frames]
