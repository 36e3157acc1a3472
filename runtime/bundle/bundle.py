"""Reading a bundle: nothing in it is used before its schema, paths, sizes and hashes were checked.

`engines/README.md` specifies the format; `manifest.py` holds its types.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from vla_edge.runtime.errors import BundleError, InputError
from vla_edge.runtime.files.digest import sha256_of_open
from vla_edge.runtime.files.regular_file import is_link, open_regular, read_regular, regular_size
from vla_edge.runtime.printable import one_line
from vla_edge.runtime.process.cores import usable_cores

from .external_data import MAX_MODEL_BYTES, check_external_data
from .finding import find_bundles, no_bundle
from .golden import golden_limit_bytes, read_golden, rows, sample_inputs
from .manifest import (
    CAMERA_STAGE,
    GOLDEN_NAME,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    MODEL_NAME,
    PIXELS,
    TOKENIZER_NAME,
    WEIGHTS_NAME,
    FileEntry,
    Manifest,
)
from .manifest_file import decode
from .tokenizer.file import MAX_TOKENIZER_BYTES

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Bundle", "Verification", "find_bundles", "load_golden", "require_known", "rows", "sample_inputs"]

Verification = Literal["full", "size"]

MAX_OTHER_BYTES = 64 << 20  # of any other file; also constants and alignment beside the weights
REQUIRED_FILES = (MODEL_NAME, WEIGHTS_NAME, GOLDEN_NAME)


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: every listed file was there and as the manifest says.

    Attributes:
        folder: where it lies, absolute; of a link to a bundle, the bundle itself.
        manifest: its validated manifest.
        manifest_sha256: of the manifest's bytes; it covers every other file through their hashes.
    """

    folder: Path
    manifest: Manifest
    manifest_sha256: str

    @property
    def identity(self) -> str:
        """The bundle's name and the first 12 digits of its manifest's SHA-256."""
        return f"{one_line(self.manifest.name)} {self.manifest_sha256[:12]}"

    @property
    def model_path(self) -> Path:
        """The graph, checked at each access: the one way to it, as engines follow the locations in it unasked.

        Raises:
            BundleError: a tensor takes its data from anywhere but the listed data file.
        """
        path = self.folder / MODEL_NAME
        check_external_data(path, WEIGHTS_NAME)
        return path

    def has(self, path: str) -> bool:
        """Whether the manifest lists this file; a file that it does not list was never checked."""
        return any(entry.path == path for entry in self.manifest.files)

    @classmethod
    def open(cls, folder: str | os.PathLike[str], verify: Verification = "full") -> Bundle:
        """Open a bundle and check it.

        Args:
            folder: what `vla-export` wrote.
            verify: "full" hashes every file (about 0.7 s per GB, one core for the weights); "size" compares
                sizes only, for a bundle whose hashes were checked before and a start that must be quick.

        Raises:
            BundleError: no bundle there, or its manifest, paths, sizes or hashes do not hold.
            InputError: `verify` is neither of the two.
        """
        require_known(verify)
        bundle = cls.unchecked(folder)
        files = bundle.manifest.files
        paths = _contained_paths(bundle.folder, files)
        _check_sizes(paths, files, bundle.manifest)
        if verify == "full":
            _check_hashes(paths, files)
        return bundle

    @classmethod
    def unchecked(cls, folder: str | os.PathLike[str]) -> Bundle:
        """A bundle of which only the manifest was read: to look at what may be damaged, never to run it.

        Raises:
            BundleError: no bundle there, or its manifest is not valid.
        """
        try:
            root = Path(folder).absolute()
        except TypeError as error:
            raise InputError(f"{folder!r} is no path.", "Give a folder that vla-export wrote.") from error
        if root.is_symlink():  # as of a robot's `current`, which may be turned while this bundle is in use
            root = Path(os.path.realpath(root))
        data = _read_manifest(root)
        manifest = decode(data, str(root / MANIFEST_NAME))
        return cls(root, manifest, hashlib.sha256(data).hexdigest())

    def locate(self, entry: FileEntry) -> Path:
        """Where a listed file lies.

        Raises:
            BundleError: not a plain path inside the bundle, missing, no regular file, or of another size.
        """
        path = _inside(self.folder, entry.path)
        _check_sizes({entry.path: path}, (entry,), self.manifest)
        return path

    def check_hashes(self, unread: Collection[str] = ()) -> None:
        """Hash the listed files, except those that the caller will not read.

        Raises:
            BundleError: a file changed since the export.
        """
        files = tuple(entry for entry in self.manifest.files if entry.path not in unread)
        _check_hashes({entry.path: self.folder / entry.path for entry in files}, files)


def load_golden(bundle: Bundle) -> dict[str, np.ndarray]:
    """The golden samples: inputs, stage features and actions of the PyTorch FP32 policy.

    Returns:
        `names` unicode [N]; one array [N, ...] per graph input by its name, without its batch axis (carried state
        [layers, B, hidden] becomes [N, layers, hidden]); `actions` float32 [N, steps, size], whatever the graph
        calls them; `stage_<name>` float32 [N, ...] per stage that the manifest lists, of carried state
        [N, layers, hidden]. Of a policy with a prompt,
        `input_ids`, `token_ids` and `attention_mask` int32 [N, L] and `instruction_index` int32 [N] may be there
        without an input. Where the graph begins with a camera, `pixel_values` float32 [N, 3, H, W] are what PyTorch
        was given, which is also the stage `camera`.

    Raises:
        BundleError: not an archive of plain arrays, or names, dtypes or shapes are not the manifest's.
    """
    golden = read_golden(bundle.folder / GOLDEN_NAME, bundle.manifest)
    if bundle.manifest.camera is not None:
        golden.setdefault(PIXELS, golden[f"stage_{CAMERA_STAGE}"])
    return golden


def require_known(verify: str) -> None:
    """Raise InputError unless `verify` is one of `Verification`."""
    if verify not in ("full", "size"):
        raise InputError(f"verify={verify!r} is not known.", 'Use verify="full" or verify="size".')


def _read_manifest(root: Path) -> bytes:
    path = root / MANIFEST_NAME
    try:
        return read_regular(path, MAX_MANIFEST_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise no_bundle(root) from error
    except OSError as error:
        if is_link(error):
            raise _linked(path, root) from error
        raise BundleError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
    except ValueError as error:  # a zero byte, or half a surrogate pair
        raise BundleError(
            f"{str(path)!r} cannot be a file: {error}.", "Give a folder that vla-export wrote."
        ) from error


def _contained_paths(root: Path, files: Iterable[FileEntry]) -> dict[str, Path]:
    """Where each listed file lies, by its path in the manifest: all inside the folder, none behind a link."""
    paths = {entry.path: _inside(root, entry.path) for entry in files}
    missing = [name for name in REQUIRED_FILES if name not in paths]
    if missing:
        raise _damaged(f"{root}: the manifest does not list {', '.join(missing)}.")
    return paths


def _damaged(problem: str) -> BundleError:
    return BundleError(problem, "The bundle was damaged or edited; copy it again, or export it again.")


def _linked(path: Path, root: Path) -> BundleError:
    return BundleError(
        f"{path} is a symbolic link, and a bundle's files must lie in it: a link can be turned elsewhere "
        "after the check, and engines follow it.",
        f"Copy the files themselves: cp -rL {root} NEW. A hub's cache is made of links: download with local_dir=.",
    )


def _inside(root: Path, path: str) -> Path:
    """The file of a path in the manifest.

    Raises:
        BundleError: absolute, with "..", "." or an empty part, with a backslash or a NUL (a path that means
            different files on different systems), or a link on the way.
    """
    relative = PurePosixPath(path)
    plain = "\\" not in path and "\0" not in path and ":" not in path and str(relative) == path
    if not plain or relative.is_absolute() or ".." in relative.parts or path == ".":
        raise _damaged(f"{root}: the manifest lists {path!r}, not a plain path inside the bundle.")
    found = root
    for part in relative.parts:
        found = found / part
        try:
            if found.is_symlink():
                raise _linked(found, root)
        except (OSError, ValueError) as error:  # too long, or not in the file system's encoding
            raise _damaged(f"{root}: the manifest lists {path!r}, which cannot be: {error}.") from error
    return found


def _check_sizes(paths: dict[str, Path], files: Iterable[FileEntry], manifest: Manifest) -> None:
    for entry in files:
        path = paths[entry.path]
        try:
            size = regular_size(path)
        except OSError as error:
            raise _damaged(f"{path}, listed in the manifest, cannot be read: {error.strerror}.") from error
        if size != entry.size_bytes:
            kind = "truncated" if size < entry.size_bytes else "too long"
            raise _damaged(f"{path} is {kind}: it has {size} bytes, the manifest says {entry.size_bytes}.")
        limit = limit_bytes(entry.path, manifest)
        if size > limit:  # before it is hashed: a sparse file of any size takes no room on a disk
            raise _damaged(f"{path} has {size} bytes, by the rest of the manifest it has at most {limit}.")


def limit_bytes(path: str, manifest: Manifest) -> int:
    """The most that a file of this name can need."""
    if path == WEIGHTS_NAME:
        return 4 * manifest.source.parameters + MAX_OTHER_BYTES
    if path == GOLDEN_NAME:
        return golden_limit_bytes(manifest)
    return {MODEL_NAME: MAX_MODEL_BYTES, TOKENIZER_NAME: MAX_TOKENIZER_BYTES}.get(path, MAX_OTHER_BYTES)


def _check_hashes(paths: dict[str, Path], files: tuple[FileEntry, ...]) -> None:
    """Hash all files, several at a time: hashlib lets other threads run while it works."""
    largest_first = sorted(files, key=lambda entry: -entry.size_bytes)
    with ThreadPoolExecutor(max_workers=max(1, min(len(files), usable_cores()))) as pool:
        digests = pool.map(_sha256, [paths[entry.path] for entry in largest_first])
        for entry, digest in zip(largest_first, digests, strict=True):
            if digest != entry.sha256:
                raise _damaged(
                    f"{paths[entry.path]} was changed: its SHA-256 is {digest}, not {entry.sha256}."
                )


def _sha256(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return sha256_of_open(file)
    except OSError as error:
        denied = error.errno in (errno.EACCES, errno.EPERM)
        hint = "Check its permissions." if denied else "Check the disk."
        raise BundleError(f"{path} cannot be read: {error.strerror}.", hint) from error
