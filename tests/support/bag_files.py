"""Bags of ROS 2 written by `rosbags`, whose code the reader does not share."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_HUMBLE)
NS = 1_000_000_000
CAMERA, CMD_VEL = "/camera/image/compressed", "/cmd_vel"


@dataclass(frozen=True)
class Said:
    """A message, on its topic, recorded at a time in seconds."""

    topic: str
    log_s: float
    message: Any


def header(stamp_s: float | None) -> Any:
    types = STORE.types
    whole, part = divmod(round((stamp_s or 0.0) * NS), NS)
    return types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](whole, part), "camera_link")


def raw_image(
    pixels: np.ndarray, stamp_s: float | None = None, encoding: str = "rgb8", padding: int = 0
) -> Any:
    height, width = pixels.shape[:2]
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)))
    kind = STORE.types["sensor_msgs/msg/Image"]
    return kind(header(stamp_s), height, width, encoding, 0, rows.shape[1], rows.reshape(-1))


def compressed_image(pixels: np.ndarray, stamp_s: float | None = None) -> Any:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    data = np.frombuffer(buffer.getvalue(), np.uint8)
    return STORE.types["sensor_msgs/msg/CompressedImage"](header(stamp_s), "png", data)


def twist(x: float, y: float, turn: float, stamp_s: float | None = None) -> Any:
    """Stamped where a stamp is given."""
    vector = STORE.types["geometry_msgs/msg/Vector3"]
    plain = STORE.types["geometry_msgs/msg/Twist"](vector(x, y, 7.0), vector(7.0, 7.0, turn))
    if stamp_s is None:
        return plain
    return STORE.types["geometry_msgs/msg/TwistStamped"](header(stamp_s), plain)


def write_bag(folder: Path, said: list[Said], storage: str = "mcap", packed: bool = False) -> Path:
    """A folder as rosbag2 writes it; returns the file of messages in it."""
    writer = Writer(folder, version=9, storage_plugin=StoragePlugin[storage.upper()])
    if packed:
        mode = CompressionMode.STORAGE if storage == "mcap" else CompressionMode.FILE
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for each in said:
            kind = each.message.__msgtype__
            if each.topic not in connections:
                connections[each.topic] = writer.add_connection(each.topic, kind, typestore=STORE)
            data = STORE.serialize_cdr(each.message, kind)
            writer.write(connections[each.topic], round(each.log_s * NS), data)
    return next(path for path in folder.iterdir() if path.suffix in (".mcap", ".db3"))
