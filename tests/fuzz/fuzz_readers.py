"""The readers of bytes from outside, each with sound examples to damage and the way in that users take.

A reader may accept damaged bytes or refuse them with a `VlaError`; it may do nothing else. Each is read to
the end: tensors are touched, golden arrays compared, an accepted manifest is loaded into an engine and acts.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz_seeds as seeds
import numpy as np
from fuzz_mutate import mutate_bytes, mutate_json, mutate_pickle, mutate_zip
from fuzz_reader import Reader
from fuzz_recordings import Bags, Hdf5, LerobotInfo, Tables, Videos
from rich.console import Console


class Checkpoint(Reader):
    """torch's container: the archive, the pickle in it, and the tensors behind it."""

    suffix = ".pth"

    def prepare(self) -> None:
        self.examples = seeds.checkpoints(self.folder)
        self._grafts = seeds.pickle_grafts()

    def mutate(self, rng: random.Random, data: bytes) -> bytes:
        if rng.random() < 0.25:
            return mutate_bytes(rng, data)

        def change(name: str, content: bytes) -> bytes:
            pickled = name.endswith(".pkl")
            return mutate_pickle(rng, content, self._grafts) if pickled else mutate_bytes(rng, content)

        def pickle_only(name: str, content: bytes) -> bytes:
            return mutate_pickle(rng, content, self._grafts) if name.endswith(".pkl") else content

        return mutate_zip(rng, data, change if rng.random() < 0.3 else pickle_only)

    def read(self, data: bytes) -> None:
        from vla_edge.export.checkpoint.checkpoint import read_stored
        from vla_edge.export.inspect.checkpoint import as_json, compare_weights, inspect_policy
        from vla_edge.runtime.command.json_text import json_text

        path = self.folder / f"case{self.suffix}"
        path.write_bytes(data)
        stored = read_stored(path)
        json_text(as_json(inspect_policy(stored), None, 4))
        compare_weights(stored.tensors, stored.tensors, tuple(stored.tensors), 2)
        for tensor in stored.tensors.values():
            tensor.detach().reshape(-1)[:100_000].double().sum()


class Safetensors(Checkpoint):
    suffix = ".safetensors"

    def prepare(self) -> None:
        self.examples = seeds.safetensors_files()

    def mutate(self, rng: random.Random, data: bytes) -> bytes:
        size = int.from_bytes(data[:8], "little")
        if rng.random() < 0.3:
            return mutate_bytes(rng, data)
        header = mutate_json(rng, data[8 : 8 + size])
        return len(header).to_bytes(8, "little") + header + data[8 + size :]


class Settings(Reader):
    """A settings file, as YAML or JSON, and the same text as an option."""

    def prepare(self) -> None:
        from vla_edge.export.checkpoint.checkpoint import read_checkpoint

        self.examples = seeds.settings_files()
        self._arch = read_checkpoint(seeds.tiny_checkpoint(self.folder / "sample")).architecture
        self._json = [text for text in self.examples if text.startswith(b"{")]

    def mutate(self, rng: random.Random, data: bytes) -> bytes:
        if rng.random() < 0.4:
            return mutate_json(rng, rng.choice(self._json))
        if rng.random() < 0.5:
            at = rng.randrange(len(data) + 1)
            data = data[:at] + rng.choice(seeds.YAML_GRAFTS) + data[at:]
        return mutate_bytes(rng, data)

    def read(self, data: bytes) -> None:
        from vla_edge.export.kosmos2.settings_rules import RULES
        from vla_edge.export.settings.text import parse_options

        path = self.folder / "case.yaml"
        path.write_bytes(data)
        option = data.decode("utf-8", "surrogateescape")
        for given in (
            lambda: {"file": path},
            lambda: {"options": parse_options([option])},
            lambda: {"options": parse_options([f"pooling={option}"])},
        ):
            refused_or_read(lambda given=given: RULES.resolve(self._arch, **given()))  # type: ignore[misc]


class BundleReader(Reader):
    """A reader of one file of a bundle: a sound bundle whose one file is replaced."""

    name = "manifest.json"
    layout = "pure"
    options: dict[str, Any] = {}  # noqa: RUF012 - of the export, not changed

    def prepare(self) -> None:
        self.bundle = seeds.tiny_bundle(self.folder / "sample", self.layout, **self.options)
        self.examples = [(self.bundle / self.name).read_bytes()]

    def put(self, data: bytes) -> Path:
        """The file in its place, and the manifest's entry of it right."""
        path = self.bundle / self.name
        path.write_bytes(data)
        manifest = json.loads((self.bundle / "manifest.json").read_bytes())
        for entry in manifest["files"]:
            if entry["path"] == self.name:
                entry |= {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        (self.bundle / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False))
        return self.bundle


class Golden(BundleReader):
    name = "golden.npz"

    def mutate(self, rng: random.Random, data: bytes) -> bytes:
        if rng.random() < 0.3:
            return mutate_bytes(rng, data)
        return mutate_zip(rng, data, lambda _, content: _mutate_array(rng, content))

    def read(self, data: bytes) -> None:
        from vla_edge.runtime import Bundle, load_golden

        golden = load_golden(Bundle.open(self.put(data)))
        for array in golden.values():
            np.array_equal(array, array)


class GoldenFrames(Golden):
    options: dict[str, Any] = {"camera": seeds.CAMERA}  # noqa: RUF012 - as above


def _mutate_array(rng: random.Random, content: bytes) -> bytes:
    """Another header of an array, which is a Python literal, or blind damage."""
    if rng.random() < 0.5:
        return mutate_bytes(rng, content)
    header = rng.choice(seeds.ARRAY_HEADERS)
    start = b"\x93NUMPY" + rng.choice((b"\x01\x00", b"\x02\x00", b"\x03\x00"))
    width = 2 if start.endswith(b"\x01\x00") else 4
    length = len(header) if rng.random() < 0.9 else rng.choice((0, 65535))
    return start + length.to_bytes(width, "little") + header + content[128:]


class Graph(BundleReader):
    """Where a graph keeps its weights; onnx itself is asked whether one that was accepted keeps to its file."""

    name = "model.onnx"

    def mutate(self, rng: random.Random, data: bytes) -> bytes:
        if rng.random() < 0.4:
            return mutate_bytes(rng, data)
        model = seeds.with_other_external_data(rng, data)
        return mutate_bytes(rng, model) if rng.random() < 0.1 else model

    def read(self, data: bytes) -> None:
        from vla_edge.runtime.bundle.external_data import check_external_data

        path = self.bundle / self.name
        path.write_bytes(data)
        check_external_data(path, "model.onnx.data")
        stray = seeds.external_locations(data) - {"model.onnx.data"}
        if stray:
            raise AssertionError(f"accepted, though its weights come from {sorted(stray)}")


class Parts(BundleReader):
    """A graph and its cuts; onnx itself is asked whether parts that were accepted are all of the graph."""

    name = "model.onnx"
    layout = "hybrid-a"

    def mutate(self, rng: random.Random, data: bytes) -> bytes:
        if rng.random() < 0.3:
            return mutate_bytes(rng, data)
        model = seeds.with_other_nodes(rng, data)
        return mutate_bytes(rng, model) if rng.random() < 0.1 else model

    def read(self, data: bytes) -> None:
        from vla_edge.export.parts.choice import choose
        from vla_edge.export.parts.graph import graph_of
        from vla_edge.export.parts.split import split
        from vla_edge.runtime import Bundle

        manifest = Bundle.unchecked(self.bundle).manifest
        if data not in self.examples:
            manifest = seeds.with_other_cuts(random.Random(data), manifest)
        graph = graph_of(data, manifest)
        for count in range(1, len(graph.segments) + 1):
            parts = split(graph, choose(graph, count, None, int).boundaries)
            if wrong := seeds.wrong_parts([part.model for part in parts], data):
                raise AssertionError(f"accepted, though {wrong}")


class Tokenizer(BundleReader):
    """tokenizer.json, on the workstation and on the robot."""

    name = "tokenizer.json"
    options = {"keep_vocabulary": True}  # noqa: RUF012 - of the export, not changed

    def mutate(self, rng: random.Random, data: bytes) -> bytes:
        return mutate_bytes(rng, data) if rng.random() < 0.15 else mutate_json(rng, data)

    def read(self, data: bytes) -> None:
        from vla_edge.export.kosmos2.tokens import load_tokenizer
        from vla_edge.runtime import Bundle
        from vla_edge.runtime.instructions import instructions_of

        folder = self.put(data)
        filled = "<s><image> <image> <image> </image> go to the cup"
        refused_or_read(lambda: load_tokenizer(str(folder / self.name)).encode(filled).ids)
        instructions_of(Bundle.open(folder)).encode("a new place")


class Packed(BundleReader):
    """A packed bundle, whole and as an update; one that is accepted must be the bundle that was packed."""

    def prepare(self) -> None:
        from packed_files import packed_file

        super().prepare()
        self.examples = [
            packed_file(self.bundle, self.folder / name, since).read_bytes()
            for name, since in (("whole.vla", None), ("update.vla", self.bundle))
        ]
        self._sound = {path.name: path.read_bytes() for path in self.bundle.iterdir() if path.is_file()}

    def mutate(self, rng: random.Random, data: bytes) -> bytes:
        from packed_files import joined, split

        if rng.random() < 0.3:
            return mutate_bytes(rng, data)
        index, rest = split(data)
        if rng.random() < 0.2:
            rest = mutate_bytes(rng, rest)
        return joined(mutate_json(rng, json.dumps(index).encode()), rest)

    def read(self, data: bytes) -> None:
        from packed_files import unpacked

        path, out = self.folder / "case.vla", self.folder / "out"
        path.write_bytes(data)
        shutil.rmtree(out, ignore_errors=True)
        unpacked(path, out, self.bundle)
        if {file.name: file.read_bytes() for file in out.iterdir()} != self._sound:
            raise AssertionError("accepted, and another bundle than was packed")


class Images(Reader):
    """An image file, whatever its bytes are and its name says."""

    def prepare(self) -> None:
        from vla_edge.runtime import Bundle, Preprocessor

        self.examples = seeds.image_files()
        bundle = Bundle.open(seeds.tiny_bundle(self.folder / "sample"))
        self._preprocess = Preprocessor(bundle.manifest.preprocessing)
        size = (bundle.manifest.preprocessing.height, bundle.manifest.preprocessing.width)
        self._out = np.empty((1, 3, *size), np.float32)

    def read(self, data: bytes) -> None:
        path = (
            self.folder
            / f"case{hashlib.sha256(data).digest()[0] % 4}.{('jpg', 'png', 'tif', 'webp')[data[-1] % 4 if data else 0]}"
        )
        path.write_bytes(data)
        try:
            self._preprocess(path, self._out)
        finally:
            path.unlink()


class Manifest(BundleReader):
    """A manifest whose listed files are all right, loaded into an engine, and a step of the policy."""

    def prepare(self) -> None:
        super().prepare()
        self.examples += [
            (seeds.tiny_bundle(self.folder / f"sample{at}", layout) / self.name).read_bytes()
            for at, layout in enumerate(("hybrid-a", "hybrid-c"))
        ]
        self.examples += [seeds.manifest_before(self.examples[0])]
        self._frame = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)

    def mutate(self, rng: random.Random, data: bytes) -> bytes:
        return mutate_bytes(rng, data) if rng.random() < 0.1 else mutate_json(rng, data)

    def read(self, data: bytes) -> None:
        from vla_edge.runtime import Bundle, Policy, load_golden

        (self.bundle / self.name).write_bytes(data)
        load_golden(Bundle.open(self.bundle, "size"))
        with Policy.load(self.bundle, "onnxruntime", "size", threads=1) as policy:
            str(policy.identity)
            policy.act(self._frame)


class CameraManifest(Manifest):
    """The same of a bundle that takes a camera's frames as they are, of the size of those given here."""

    options: dict[str, Any] = {"camera": seeds.CAMERA}  # noqa: RUF012 - as above

    def prepare(self) -> None:
        BundleReader.prepare(self)
        self._frame = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)


class SideFiles(BundleReader):
    """What lies beside a plan, the plan's header, and the caches of TensorRT."""

    def prepare(self) -> None:
        super().prepare()
        self._plan, self._machine, record = seeds.planted_plan(self.bundle)
        self.examples = [record, seeds.record_in_parts(self.bundle, record), seeds.record_before(record)]

    def mutate(self, rng: random.Random, data: bytes) -> bytes:
        return mutate_bytes(rng, data) if rng.random() < 0.2 else mutate_json(rng, data)

    def read(self, data: bytes) -> None:
        from vla_edge.runtime import Bundle
        from vla_edge.runtime.engines.tensorrt.parts.loading import chain_of
        from vla_edge.runtime.engines.tensorrt.plan import find_plan, open_part, require_verified
        from vla_edge.runtime.engines.tensorrt.plan_header import read_header
        from vla_edge.runtime.engines.tensorrt.plan_names import record_path
        from vla_edge.runtime.files.cache_file import CacheFile

        record_path(self._plan).write_bytes(data)
        str(read_header(data[:64]))
        cache = self.folder / "timing.cache"
        cache.write_bytes(data)
        CacheFile(cache, "timing cache", "tensorrt 10.6.0").read()
        bundle = Bundle.open(self.bundle, "size")
        plan = find_plan(bundle, self._machine)
        require_verified(plan)
        chain_of(plan, bundle.manifest)
        for part in plan.record.parts:
            with open_part(plan, part):
                pass


class Reports(Reader):
    """A bench report: compared with itself, and written in every form."""

    def prepare(self) -> None:
        self.examples = seeds.reports()

    def mutate(self, rng: random.Random, data: bytes) -> bytes:
        return mutate_bytes(rng, data) if rng.random() < 0.1 else mutate_json(rng, data)

    def read(self, data: bytes) -> None:

        from vla_edge.bench.compare.rows import compare
        from vla_edge.bench.compare.table import print_comparison
        from vla_edge.bench.output.csv_table import to_csv
        from vla_edge.bench.output.markdown import to_markdown
        from vla_edge.bench.output.page import to_page
        from vla_edge.bench.output.terminal import print_report
        from vla_edge.bench.report.file import read_report

        path = self.folder / "case.json"
        path.write_bytes(data)
        report = read_report(path)
        to_csv(report)
        to_markdown(report)
        if sum(data) % 8 == 0:  # the dearest, made of the same words
            for console in (Console(file=io.StringIO(), width=80, force_terminal=True), _pipe()):
                print_report(report, console)
            to_page(report)
            print_comparison(compare(report, report, 0.05, 0.1), _pipe())


def _pipe() -> Console:
    return Console(file=io.StringIO(), width=100)


READERS: dict[str, type[Reader]] = {
    "checkpoint": Checkpoint,
    "safetensors": Safetensors,
    "settings": Settings,
    "golden": Golden,
    "golden-frames": GoldenFrames,
    "graph": Graph,
    "packed": Packed,
    "parts": Parts,
    "tokenizer": Tokenizer,
    "images": Images,
    "manifest": Manifest,
    "camera-manifest": CameraManifest,
    "side-files": SideFiles,
    "reports": Reports,
    "hdf5": Hdf5,
    "lerobot": LerobotInfo,
    "tables": Tables,
    "bags": Bags,
    "videos": Videos,
}


def refused_or_read(read: Callable[[], object]) -> None:
    """One of several ways in: a refusal of this one must not hide the next."""
    from vla_edge.runtime import VlaError

    with contextlib.suppress(VlaError):
        read()


def finding(reader: Reader, data: bytes) -> str | None:
    """What is wrong with the way in which a reader took these bytes; None if nothing is."""
    from vla_edge.runtime import VlaError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reader.read(data)
        except VlaError as error:
            return _unhelpful(error)
        except BaseException as error:  # Rust's panics are no `Exception`
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            return f"{type(error).__module__}.{type(error).__qualname__}: {str(error)[:200]!r}"
    return None


def _unhelpful(error: Any) -> str | None:
    """An error without a problem or hint, or one that cannot be written to a terminal."""
    try:
        str(error).encode()
    except UnicodeEncodeError:
        return f"words that cannot be written: {ascii(error.problem)[:200]}"
    return None if error.problem else f"{type(error).__name__} without words"


@functools.cache
def make(name: str, folder: Path) -> Reader:
    """A reader with its examples made, in a folder of its own."""
    home = folder / name
    shutil.rmtree(home, ignore_errors=True)
    return READERS[name](home)
