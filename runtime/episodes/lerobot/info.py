"""What a LeRobot data set says of itself (`meta/info.json`), and where it says that its files are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from vla_edge.runtime.episodes.kinds import LEROBOT_INFO
from vla_edge.runtime.episodes.reading import inside, reading, require_file
from vla_edge.runtime.errors import EpisodeError

MAX_INFO_BYTES = 16 << 20
MAX_EPISODES = 1_000_000

Count = Annotated[int, Meta(ge=0, le=1 << 40)]
# "{chunk_index:03d}", "{video_key}": the only two forms that a template holds
_FIELD = re.compile(r"\{(\w+)(?::0(\d)d)?\}")


class Feature(Struct):
    """A column, or the frames of a camera."""

    dtype: str
    shape: Annotated[tuple[Count, ...], Meta(max_length=8)] = ()
    names: Any = None


class Info(Struct):
    """The fields that are used; a data set has more."""

    codebase_version: str
    fps: Annotated[float, Meta(gt=0, le=10_000)]
    features: Annotated[dict[str, Feature], Meta(max_length=1000)]
    data_path: Annotated[str, Meta(max_length=1000)]
    video_path: Annotated[str, Meta(max_length=1000)] | None = None
    chunks_size: Annotated[int, Meta(gt=0)] = 1000
    total_episodes: Count | None = None

    @property
    def version(self) -> int:
        """2 or 3."""
        return 3 if self.codebase_version.startswith("v3.") else 2

    @property
    def cameras(self) -> list[str]:
        """Names of the features that are frames."""
        return [name for name, feature in self.features.items() if feature.dtype in ("video", "image")]


def read_info(root: Path) -> Info:
    """The data set's account of itself.

    Raises:
        EpisodeError: it is damaged, or of another version than 2.1 and 3.
    """
    path = inside(root, root / LEROBOT_INFO)
    info = decode_json(path, Info)
    if not re.fullmatch(r"v2\.1|v3\.\d+", info.codebase_version):
        raise EpisodeError(
            f"{path} is of version {info.codebase_version[:32]!r}; 2.1 and 3 are read.",
            "Convert the data set with LeRobot's own script.",
        )
    return info


def decode_json(path: Path, kind: Any) -> Any:
    """A JSON file of a data set as a type.

    Raises:
        EpisodeError: too long, or not of that type.
    """
    if require_file(path) > MAX_INFO_BYTES:
        raise EpisodeError(
            f"{path} has more than {MAX_INFO_BYTES >> 20} MiB.", "It is damaged: copy it again."
        )
    with reading(path, "JSON"):
        return msgspec.json.decode(path.read_bytes(), type=kind)


def chosen_camera(info: Info, wanted: str | None, root: Path) -> str:
    """The feature whose frames are meant.

    Raises:
        EpisodeError: none, several of which none was named, or another name.
    """
    cameras = info.cameras
    if wanted is None and len(cameras) == 1:
        return cameras[0]
    if wanted in cameras:
        return str(wanted)
    listed = ", ".join(cameras[:10]) or "none"
    asked = f"no camera {wanted!r}" if wanted is not None else f"{len(cameras)} cameras"
    raise EpisodeError(f"{root} has {asked}; it has: {listed}.", "Say which one is meant: --view NAME.")


def component_names(info: Info, root: Path) -> tuple[str, ...]:
    """Of the feature "action", one a component, where the data set does not tell as action_0 and so on.

    Raises:
        EpisodeError: there is no such feature, or not as many names as components.
    """
    feature = info.features.get("action")
    if feature is None or len(feature.shape) != 1:
        raise EpisodeError(
            f"{root} has no feature 'action' of one dimension.", "Give a data set with actions."
        )
    names = feature.names
    if isinstance(names, dict):  # such as {"motors": ["x", "y"]}
        names = next(iter(names.values()), None)
    if names is None:
        return tuple(f"action_{at}" for at in range(min(feature.shape[0], 1 << 10)))
    if not isinstance(names, list) or len(names) != feature.shape[0]:
        raise EpisodeError(
            f"{root} names {names!r:.100} for {feature.shape[0]} components.", "Mend info.json."
        )
    return tuple(str(name)[:200] for name in names)


def file_of(root: Path, template: str, **values: int | str) -> Path:
    """The file that a template of the data set means; its fields are put in as text, nothing else is done.

    Raises:
        EpisodeError: an unknown field, or the path leads out of the data set.
    """

    def put(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise EpisodeError(f"{root} has a path with the unknown field {found[1]!r}.", "Mend info.json.")
        value = values[found[1]]
        return f"{value:0{int(found[2])}d}" if found[2] and isinstance(value, int) else str(value)

    text = _FIELD.sub(put, template)
    if "\0" in text:
        raise EpisodeError(f"{root} has a path that cannot be one.", "Mend info.json.")
    return inside(root, root / text)
