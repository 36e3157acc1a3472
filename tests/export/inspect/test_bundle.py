"""`vla-inspect` of bundles: what they hold, whether they run here, and what is wrong with damaged ones."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from part_plans import make_parts_plan, two_streams
from plan_bundles import make_plan

from vla_edge.export.inspect import bundle_cli as inspect_bundle_cli
from vla_edge.export.inspect import machine as inspect_machine
from vla_edge.export.inspect.bundle import inspect_bundle
from vla_edge.export.inspect.bundle_diff import differences
from vla_edge.export.inspect.bundle_json import bundle_json
from vla_edge.export.inspect.bundle_view import print_bundle, print_differences
from vla_edge.export.inspect.cli import main
from vla_edge.export.inspect.list_view import print_list
from vla_edge.export.inspect.machine import Installed, ThisMachine, runs_here
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import Camera
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.cuda.device import DeviceInfo
from vla_edge.runtime.engines.tensorrt.plan_names import record_path

Inspect = Callable[..., tuple[int, str, str]]
BundleOf = Callable[..., Path]
Edit = Callable[[dict[str, Any]], object]

ORT = Installed("onnxruntime", "1.31.1", "")
TRT = Installed("tensorrt", "10.6.0", "")
NO_TRT = Installed("tensorrt", "", "TensorRT is not installed.")
NO_RTX = Installed("tensorrt-rtx", "", "TensorRT-RTX is not installed.")
ORIN = DeviceInfo(index=0, name="Orin", sm=87, total_mib=15000, integrated=True, driver="CUDA 12.6")
ROBOT = ThisMachine((ORT, TRT, NO_RTX), ORIN, "")
LAPTOP = ThisMachine((ORT, NO_TRT, NO_RTX), None, "")


@pytest.fixture
def inspect(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Inspect:
    """Runs the command on a machine with ONNX Runtime alone; gives exit code, stdout, stderr."""
    monkeypatch.setattr(inspect_bundle_cli, "this_machine", lambda: LAPTOP)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["vla-inspect", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        captured = capsys.readouterr()
        return int(ending.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def copy(tmp_path: Path, bundle_of: BundleOf) -> Path:
    """A bundle of its own for each test."""
    return Path(shutil.copytree(bundle_of("pure", "none", "fp16"), tmp_path / "engines" / "pure-fp16"))


def edit(folder: Path, change: Edit) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


def add_plan(folder: Path, sm: int = 87, passed: bool | None = True, rejected: bool = False) -> Path:
    """A file that stands for a plan, and a side file that belongs to the bundle."""
    path = make_plan(Bundle.unchecked(folder), sm=sm, passed=passed, data=b"plan")
    if rejected:
        path, plan = path.with_name(path.name + ".rejected"), path
        plan.rename(path)
        record_path(plan).rename(record_path(path))
    return path


def add_parts(folder: Path) -> list[Path]:
    """The files of a plan in four parts."""
    bundle = Bundle.unchecked(folder)
    plan = make_parts_plan(bundle, two_streams(bundle.manifest))
    return sorted(plan.parent.glob("*.part"))


class TestOneBundle:
    def test_shows_what_there_is_to_know_the_answer_first(self, copy: Path, inspect: Inspect) -> None:
        code, text, _ = inspect(copy)
        assert code == 0
        first, second = text.splitlines()[:2]
        assert first == "best_simple_lstm_model-fp16  pure, 1,612,194 parameters, fp16"
        assert second.startswith("action within 0.00")
        assert second.endswith("x room, at the export")
        for words in (
            "runs here with ONNX Runtime 1.31.1, which vla-run takes by itself",
            "best_simple_lstm_model.pth, 8.7 MiB, SHA-256 ",
            "weights from: sample: vla-sample",
            "epoch 4, validation MAE 0.222",
            'guessed: frame=current, features=["text"], prompt=image_first, projection_attention=full',
            "likely: pooling=max",
            "frame: each is acted on (setting frame=current)",
            "certain: image_start=2",
            "without effect: clip_feature=projected",
            "컵까지 가세요 (default)",
            "in: pixel_values float32 [1, 3, 112, 112]",
            "precision fp16, weights float16",
            "0.03 relative",
            "plans: none; vla-build makes one on the robot",
            "sizes right (--sha256 compares contents)",
        ):
            assert words in text

    def test_a_manifest_means_its_bundle(self, copy: Path, inspect: Inspect) -> None:
        assert inspect(copy / "manifest.json") == inspect(copy)

    def test_a_chosen_setting_is_told_from_a_guessed_one(self, copy: Path, inspect: Inspect) -> None:
        edit(copy, lambda manifest: manifest["settings"]["prompt"].update(origin="option"))
        edit(copy, lambda manifest: manifest["settings"]["action_scale"].update(origin="checkpoint"))
        edit(copy, lambda manifest: manifest["settings"]["pooling"].update(origin="file", value="mean"))
        _, text, _ = inspect(copy)
        assert "chosen: pooling=mean, prompt=image_first" in text
        assert 'guessed: frame=current, features=["text"], projection_attention=full' in text
        certain = text[text.index("certain:") : text.index("without effect")]
        assert "action_scale" in certain

    def test_contents_are_compared_on_request(self, copy: Path, inspect: Inspect) -> None:
        code, text, notes = inspect(copy, "--sha256")
        assert code == 0
        assert "sizes and SHA-256 right" in text
        assert notes == "hashing\n"

    def test_json_has_the_same_under_stable_keys(self, copy: Path, inspect: Inspect) -> None:
        add_plan(copy)
        code, text, _ = inspect(copy, "--json")
        found = json.loads(text)
        assert code == 0
        assert set(found) == {
            "kind", "folder", "name", "sound", "problems", "manifest_sha256", "created_utc", "checkpoint",
            "settings", "instructions", "default_instruction", "architecture", "inputs", "outputs", "stages", "cuts",
            "camera", "action", "precision", "parity", "tools", "gates", "uncompared_state", "plans", "here", "files",
            "unlisted",
        }  # fmt: skip
        assert (found["kind"], found["sound"], found["problems"]) == ("bundle", True, [])
        assert found["settings"]["prompt"]["certainty"] == "guessed"
        assert found["gates"][-1]["unit"] == found["action"]["unit"] == "m/s"
        assert found["plans"][0]["machine"]["sm"] == 87

    def test_nothing_of_torch_is_needed(self, copy: Path) -> None:
        absent = ["torch", "transformers", "onnx", "open_clip", "psutil", "tokenizers", "yaml", "safetensors"]
        code = (
            f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"
            "from vla_edge.export.inspect.cli import main\nmain()"
        )
        for more in ([], ["--json"], ["--sha256"], [str(copy)]):
            done = subprocess.run(
                [sys.executable, "-c", code, str(copy), *more], capture_output=True, text=True
            )
            assert (done.returncode, done.stderr.replace("hashing\n", "")) == (0, "")
        done = subprocess.run(
            [sys.executable, "-c", code, str(copy.parent)], capture_output=True, text=True, check=True
        )
        assert "1 bundle\n" in done.stdout

    def test_texts_of_its_files_do_not_command_the_terminal(self, copy: Path, inspect: Inspect) -> None:
        def attack(manifest: dict[str, Any]) -> None:
            manifest["source"]["file"] = "a\nb.pth"
            manifest["source"]["layout_reasons"] = ["\x9b31m", "[red]"]
            manifest["settings"]["prompt"]["value"] = "\x1b]0;owned\x07"
            manifest["tools"]["\x1b[1m"] = "\x1b[2m"
            manifest["precision"]["float32_islands"] = ["\x1b[3m"]
            manifest["instructions"][0]["text"] = manifest["default_instruction"] = "\u202ego\x1b"

        edit(copy, attack)
        (copy / "\x1b[5mstray").write_text("")
        _, text, _ = inspect(copy)
        assert not {"\x1b", "\x9b", "\x07", "\u202e"} & set(text)
        for words in ("a\\nb.pth", "\\u202ego\\x1b (default)", "\\x1b[5mstray"):
            assert words in text
        _, text, _ = inspect(copy, "--json")
        assert "\x1b" not in text


class TestWhereItRuns:
    def test_on_a_robot_with_its_plan(self, monkeypatch: pytest.MonkeyPatch, copy: Path) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name)  # it has TensorRT
        path = add_plan(copy)
        here = runs_here(Bundle.unchecked(copy), ROBOT)
        assert (here.default, here.engines[1].plan) == ("tensorrt", path.name)

    @pytest.mark.parametrize(
        ("machine", "sm", "passed", "words"),
        [
            (ROBOT, 90, True, r"has no plan for tensorrt 10.6.0 on SM 8.7: it has tensorrt-10.6.0-sm90.plan"),
            (ROBOT, 87, None, "was never checked against the golden samples"),
            (LAPTOP, 87, True, "has plans .*, but the TensorRT that runs them is not installed"),
            (ThisMachine((ORT, TRT, NO_RTX), None, "CUDA finds no GPU."), 87, True, "CUDA finds no GPU."),
        ],
    )
    def test_a_plan_that_does_not_fit_is_no_reason_to_run_slower_unasked(
        self, monkeypatch, copy: Path, machine: ThisMachine, sm: int, passed: bool | None, words: str
    ) -> None:
        found = {engine.backend.replace("-", "_") for engine in machine.engines if engine.version}
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in found else None)
        monkeypatch.setattr("vla_edge.runtime.engines.choice.has_nvidia_gpu", lambda: machine.gpu is not None)
        add_plan(copy, sm, passed)
        here = runs_here(Bundle.unchecked(copy), machine)
        assert (here.default, here.asked) == ("", "onnxruntime")
        assert re.search(words, here.problem)

    @pytest.mark.parametrize("machine", [LAPTOP, ThisMachine((ORT, TRT, NO_RTX), None, "No driver.")])
    def test_a_plan_for_a_gpu_elsewhere_that_nobody_checked_is_not_asked_for_here(
        self, monkeypatch: pytest.MonkeyPatch, copy: Path, machine: ThisMachine
    ) -> None:
        monkeypatch.setattr("vla_edge.runtime.engines.choice.has_nvidia_gpu", lambda: False)
        add_plan(copy, 89, passed=None)
        here = runs_here(Bundle.unchecked(copy), machine)
        assert (here.default, here.problem) == ("onnxruntime", "")

    def test_a_broken_side_file_is_the_cause_rather_than_the_missing_gpu(
        self, monkeypatch: pytest.MonkeyPatch, copy: Path
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name == "tensorrt" else None)
        monkeypatch.setattr("vla_edge.runtime.engines.choice.has_nvidia_gpu", lambda: False)
        record_path(add_plan(copy)).write_bytes(b"garbage")
        here = runs_here(Bundle.unchecked(copy), ThisMachine((ORT, TRT, NO_RTX), None, "No driver."))
        assert here.default == ""
        assert "is not a valid side file" in here.problem

    def test_a_graph_that_no_policy_feeds_is_not_said_to_run(self, copy: Path, inspect: Inspect) -> None:
        edit(copy, lambda manifest: manifest["inputs"][0].update(role="other"))
        code, text, _ = inspect(copy)
        assert code == 0
        assert "vla-run refuses it here: " in text
        assert "describes the inputs pixel_values (other)" in " ".join(text.replace("│", " ").split())
        here = json.loads(inspect(copy, "--json")[1])["here"]
        assert (here["default"], here["asked"]) == ("", "")

    def test_this_machine_is_looked_at_without_a_bundle(self) -> None:
        machine = inspect_machine.this_machine()
        assert [engine.backend for engine in machine.engines] == ["onnxruntime", "tensorrt", "tensorrt-rtx"]
        assert all(bool(engine.version) != bool(engine.problem) for engine in machine.engines)

    def test_the_tree_tells_how_to_run_it_all_the_same(self, copy: Path, inspect: Inspect) -> None:
        add_plan(copy)
        code, text, _ = inspect(copy)
        assert code == 0
        words = " ".join(text.replace("│", " ").split())
        assert "vla-run refuses it here" in words
        assert "--backend onnxruntime runs it, slower" in words
        assert "TensorRT 10.6.0, SM 8.7, Fake GPU" in words


def cut(folder: Path) -> None:
    (folder / "model.onnx.data").write_bytes(b"short")


def lose(folder: Path) -> None:
    (folder / "golden.npz").unlink()


def link(folder: Path) -> None:
    (folder / "golden.npz").rename(folder.parent / "golden.npz")
    (folder / "golden.npz").symlink_to(folder.parent / "golden.npz")


def pipe(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")


def escape_folder(folder: Path) -> None:
    edit(folder, lambda manifest: manifest["files"][0].update(path="../../secret"))


def unlist(folder: Path) -> None:
    edit(folder, lambda manifest: manifest["files"].pop())


class TestDamage:
    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            (cut, "model.onnx.data is truncated: it has 5 bytes"),
            (lose, "golden.npz, listed in the manifest, cannot be read"),
            (link, "golden.npz is a symbolic link"),
            (pipe, "model.onnx, listed in the manifest, cannot be read"),
            (escape_folder, "'../../secret', not a plain path inside the bundle"),
            (unlist, "the manifest does not list golden.npz"),
        ],
    )
    def test_what_can_be_shown_is_shown_and_the_damage_named(
        self, copy: Path, inspect: Inspect, damage: Callable[[Path], None], words: str
    ) -> None:
        damage(copy)
        code, text, _ = inspect(copy)
        assert code == 1
        assert text.startswith("damaged: ")
        assert words in text
        assert "damaged: no engine takes it" in text
        assert "epoch 4, validation MAE 0.222" in text
        code, text, _ = inspect(copy, "--json", "--sha256")
        found = json.loads(text)
        assert (code, found["sound"], found["here"]) == (1, False, None)
        assert words in found["problems"][0]

    @pytest.mark.parametrize("name", ["model.onnx.data", "golden.npz", "model.onnx"])
    def test_a_flipped_bit_is_found_by_its_hash(self, copy: Path, inspect: Inspect, name: str) -> None:
        content = bytearray((copy / name).read_bytes())
        content[-1] ^= 1
        (copy / name).write_bytes(content)
        assert inspect(copy, "--sha256")[:1] == (1,)
        assert f"{name} was changed: its SHA-256 is " in inspect(copy, "--sha256")[1]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"{", "is not JSON"),
            (b"[]", "holds a JSON list"),
            (b'{"schema_version": 9}', "has schema version 9"),
            (b'{"schema_version": 1}', "is not a valid manifest"),
            (b"\xff\xfe", "is not JSON"),
            (b"", "is not JSON"),
        ],
    )
    def test_without_a_valid_manifest_the_files_are_listed_and_the_code_is_2(
        self, copy: Path, inspect: Inspect, content: bytes, words: str
    ) -> None:
        (copy / "manifest.json").write_bytes(content)
        code, text, _ = inspect(copy)
        assert code == 2
        assert words in text
        assert "  golden.npz\n  model.onnx\n" in text
        code, text, _ = inspect(copy, "--json")
        assert (code, json.loads(text)["name"]) == (2, None)

    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            (lambda path: record_path(path).unlink(), "has no side file"),
            (lambda path: record_path(path).write_bytes(b"{}"), "is not a valid side file"),
            (lambda path: path.write_bytes(b"longer"), "has 6 bytes, its side file says 4"),
            (lambda path: path.unlink(), "is missing or no regular file"),
            (lambda path: edit(path.parent.parent, lambda m: m.update(name="other")), "manifest was another"),
        ],
    )
    def test_a_plan_that_cannot_be_used_is_named(
        self, copy: Path, inspect: Inspect, damage: Callable[[Path], None], words: str
    ) -> None:
        damage(add_plan(copy))
        code, text, _ = inspect(copy)
        assert code == 1
        assert words in text
        assert "tensorrt-10.6.0-sm87.plan: not usable" in text
        assert text.startswith("plan not usable: ")

    def test_a_plan_is_hashed_too(self, copy: Path, inspect: Inspect) -> None:
        add_plan(copy).write_bytes(b"nalp")
        assert "sm87.plan was changed: its SHA-256 is " in inspect(copy, "--sha256")[1]

    def test_parts_are_told_with_their_sizes_their_builds_and_who_shares_them(
        self, copy: Path, inspect: Inspect
    ) -> None:
        parts = add_parts(copy)
        other = Path(shutil.copytree(copy, copy.parent / "second"))
        head = next(path for path in parts if ".head." in path.name)
        (other / "plans" / head.name).unlink()
        os.link(head, other / "plans" / head.name)
        _, text, _ = inspect(copy)
        rows = {line.split()[1]: line.split()[2:] for line in text.splitlines() if "100 MiB" in line}
        assert {name: " ".join(words) for name, words in rows.items()} == {
            "vision": "0.0 MiB 100 MiB a copy in second",
            "tower": "0.0 MiB 100 MiB a copy in second",
            "text": "0.0 MiB 100 MiB a copy in second",
            "head": "0.0 MiB 100 MiB one file with second",
        }
        (plan,) = json.loads(inspect(copy, "--json")[1])["plans"]
        assert [part["shared_with"] for part in plan["parts"]] == [[], [], [], ["second"]]
        assert [part["problem"] for part in plan["parts"]] == [None] * 4

    def test_a_whole_plan_that_another_bundle_has_too_is_told(self, copy: Path, inspect: Inspect) -> None:
        plan = add_plan(copy)
        other = Path(shutil.copytree(copy, copy.parent / "second"))
        (other / "plans" / plan.name).unlink()
        os.link(plan, other / "plans" / plan.name)
        assert "one file with second\n" in inspect(copy)[1]

    def test_a_part_that_is_another_bundle_s_whole_plan_is_shared(self, copy: Path, inspect: Inspect) -> None:
        head = next(path for path in add_parts(copy) if ".head." in path.name)
        other = copy.parent / "plain" / "plans"
        shutil.copytree(copy, other.parent, ignore=shutil.ignore_patterns("plans"))
        other.mkdir()
        os.link(head, other / "tensorrt-10.6.0-sm87.plan")
        (plan,) = json.loads(inspect(copy, "--json")[1])["plans"]
        assert [part["shared_with"] for part in plan["parts"]] == [[], [], [], ["plain"]]

    @pytest.mark.parametrize(
        ("damage", "words", "more"),
        [
            (lambda path: path.write_bytes(b"short"), "has 5 bytes, its side file says 2048.", ()),
            (lambda path: path.unlink(), "is missing or no regular file", ()),
            (lambda path: path.write_bytes(bytes(2048)), "was changed: its SHA-256 is", ("--sha256",)),
        ],
    )
    def test_the_row_of_a_plan_names_its_damaged_part(
        self,
        copy: Path,
        inspect: Inspect,
        damage: Callable[[Path], object],
        words: str,
        more: tuple[str, ...],
    ) -> None:
        tower = next(path for path in add_parts(copy) if ".tower." in path.name)
        damage(tower)
        code, text, _ = inspect(copy, *more)
        shown = " ".join(text[text.index("plans: 1") :].replace("│", " ").split())
        assert code == 1
        assert f"tensorrt-10.6.0-sm87.plan: not usable: {tower.name} {words}" in shown
        assert f"tower 0.0 MiB 100 MiB {words}" in shown

    def test_a_rejected_plan_is_told_and_is_no_damage(self, copy: Path, inspect: Inspect) -> None:
        add_plan(copy, passed=False, rejected=True)
        code, text, _ = inspect(copy)
        assert code == 0
        assert "rejected TensorRT 10.6.0, SM 8.7" in text
        assert "REJECTED: " in text

    @pytest.mark.parametrize("name", ["nowhere", "empty", "nowhere/manifest.json"])
    def test_where_no_bundle_is_an_error_says_so(self, tmp_path: Path, inspect: Inspect, name: str) -> None:
        (tmp_path / "empty").mkdir()
        code, text, errors = inspect(tmp_path / name)
        assert (code, text) == (2, "")
        assert errors.startswith("error: ")


class TestSeveral:
    @pytest.fixture
    def engines(self, copy: Path, bundle_of: BundleOf) -> Path:
        shutil.copytree(bundle_of("hybrid-a", "transformers", "fp16"), copy.parent / "hybrid-fp16")
        return copy.parent

    def test_a_folder_of_bundles_is_a_line_each(self, engines: Path, inspect: Inspect) -> None:
        code, text, _ = inspect(engines)
        assert code == 0
        title, heads, first, second = text.splitlines()
        assert title == f"{engines}: 2 bundles"
        assert heads.split()[:2] == ["bundle", "policy"]
        assert first.split()[:3] == ["hybrid-fp16", "hybrid-a", "fp16"]
        assert second.split()[:3] == ["pure-fp16", "pure", "fp16"]
        assert "ONNX Runtime" in first

    def test_a_plan_that_was_never_checked_says_so(self, engines: Path, inspect: Inspect) -> None:
        add_plan(engines / "hybrid-fp16", 87)
        add_plan(engines / "pure-fp16", 89, passed=None)
        *_, hybrid, pure = inspect(engines)[1].splitlines()
        assert hybrid.endswith("SM 8.7")
        assert pure.endswith("SM 8.9, not checked")

    def test_80_columns_hold_a_table_and_the_current_one_stands_first(
        self, engines: Path, inspect: Inspect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = f"best_simple_clip_lstm_model-fp16-{'0' * 12}"
        (engines / "pure-fp16").rename(engines / name)
        add_plan(engines / name, 89, passed=None)
        (engines / "current").symlink_to(name)
        (engines / "previous").symlink_to("hybrid-fp16")
        monkeypatch.setattr("vla_edge.export.inspect.list_view._WIDE", 80)
        lines = inspect(engines)[1].splitlines()
        assert max(map(len, lines[1:])) <= 80
        assert lines[0] == f"{engines}: 2 bundles"
        assert lines[1].split() == ["bundle", "action", "error", "runs", "here"]
        assert re.fullmatch(rf"{name} +0\.\d+ of 0\.02 m/s  ONNX Runtime", lines[2])
        assert re.fullmatch(r"  current, pure fp16, [\d.]+ MiB", lines[3])
        assert lines[4] == "  plan SM 8.9, not checked"
        assert lines[5].startswith("hybrid-fp16 ")
        assert lines[6].startswith("  previous, hybrid-a fp16, ")
        assert lines[6].endswith("MiB, no plan")
        found = json.loads(inspect(engines, "--json")[1])
        assert (found["current"], found["previous"]) == (name, "hybrid-fp16")

    def test_a_wide_screen_has_the_links_in_a_column(self, engines: Path, inspect: Inspect) -> None:
        (engines / "current").symlink_to("pure-fp16")
        current = inspect(engines)[1].splitlines()[2]
        assert current.split()[:3] == ["pure-fp16", "current", "pure"]

    def test_a_damaged_one_does_not_hide_the_others(self, engines: Path, inspect: Inspect) -> None:
        cut(engines / "hybrid-fp16")
        code, text, _ = inspect(engines)
        assert code == 1
        assert "damaged: " in text
        assert text.splitlines()[3].split()[:3] == ["pure-fp16", "pure", "fp16"]
        code, text, _ = inspect(engines, "--json")
        assert [bundle["sound"] for bundle in json.loads(text)["bundles"]] == [False, True]

    def test_two_of_one_policy_are_the_same(self, copy: Path, inspect: Inspect) -> None:
        other = shutil.copytree(copy, copy.parent / "again")
        code, text, _ = inspect(copy, other)
        assert code == 0
        assert "The same policy" in text
        assert json.loads(inspect(copy, other, "--json")[1])["same"] is True

    def test_what_differs_between_two_is_listed(self, engines: Path, inspect: Inspect) -> None:
        code, text, _ = inspect(engines / "pure-fp16", engines / "hybrid-fp16")
        assert code == 0
        rows = {line[:26].strip(): line for line in text.splitlines()}
        fields = ("graph SHA-256", "epoch", "setting features", "error action m/s", "gate clip")
        assert all(any(row.startswith(field) for row in rows) for field in fields)
        found = json.loads(inspect(engines / "pure-fp16", engines / "hybrid-fp16", "--json")[1])
        layout = next(line for line in found["differences"] if line["field"] == "layout")
        assert (layout["first"], layout["second"]) == ("pure", "hybrid-a")

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            (lambda manifest: manifest["parity"]["gates"][0].update(limit=0.5), "gate vision"),
            (lambda manifest: manifest["settings"]["pooling"].update(value="mean"), "setting pooling"),
            (lambda manifest: manifest["source"].update(epoch=99), "epoch"),
            (lambda manifest: manifest["files"][0].update(sha256="0" * 64), "graph SHA-256"),
            (lambda manifest: manifest["action"]["limit"].__setitem__(0, 0.5), "action limit"),
            (lambda manifest: manifest["preprocessing"]["mean"].__setitem__(0, 0.1), "preprocessing mean"),
            (lambda manifest: manifest["runtime"].update(frame="first"), "acts on frame"),
            (lambda manifest: manifest["instructions"][0]["graph_ids"].reverse(), "ids of instructions"),
            (lambda manifest: manifest["architecture"].update(family="mine"), "family"),
        ],
    )
    def test_one_field_that_differs_is_the_only_line(self, copy: Path, change: Edit, field: str) -> None:
        first = Bundle.unchecked(copy).manifest
        edit(copy, change)
        (found,) = differences(first, Bundle.unchecked(copy).manifest)
        assert found.field == field

    def test_a_bundle_is_not_compared_with_a_checkpoint(
        self, copy: Path, checkpoint_of: Callable[..., Path], inspect: Inspect
    ) -> None:
        checkpoint = checkpoint_of("pure")
        for pair in ((copy, checkpoint), (checkpoint, copy)):
            code, _, errors = inspect(*pair)
            assert code == 2
            assert "Compare two bundles, or two checkpoints." in errors


def test_settings_of_another_version_are_shown_by_their_standing(copy: Path) -> None:
    edit(copy, lambda manifest: manifest["settings"]["prompt"].update(value="of the future"))
    report = inspect_bundle(copy, LAPTOP)
    certainty = {line.name: line.certainty for line in report.settings}
    assert (certainty["prompt"], certainty["pooling"], certainty["image_mean"]) == (
        "guessed",
        "likely",
        "certain",
    )


def test_a_number_beyond_float64_is_no_infinity_in_json(copy: Path, inspect: Inspect) -> None:
    def grow(manifest: dict[str, Any]) -> None:
        manifest["source"]["val_mae"] = 1e308
        manifest["settings"]["action_scale"]["value"] = [10**400, 2.0]

    edit(copy, grow)
    _, text, _ = inspect(copy, "--json")
    assert "Infinity" not in text
    assert msgspec.json.decode(text)


ODD = (None, 0, -1, 1e308, 10**30, "", "\x1b[2J", "[red]", "x\ny", "a" * 5000, [], {}, [[]], True, "\ud83d")


def mutate(value: Any, rng: random.Random) -> None:
    """Replace or remove one value anywhere inside."""
    while True:
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        inside = value[key]
        if isinstance(inside, (dict, list)) and inside and rng.random() < 0.75:
            value = inside
        elif rng.random() < 0.2:
            del value[key]
            return
        else:
            value[key] = rng.choice(ODD)
            return


@pytest.mark.parametrize("seed", range(3))
def test_no_manifest_and_no_side_file_makes_it_fall_over(
    copy: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    rng = random.Random(seed)
    plan = add_plan(copy)
    sound = [(path, path.read_bytes()) for path in (copy / "manifest.json", record_path(plan))]
    for at in range(40):
        path, content = sound[at % 2]
        value = json.loads(content)
        mutate(value, rng)
        path.write_text(json.dumps(value))
        report = inspect_bundle(copy, ROBOT)
        print_bundle(report)
        print_list(copy, [report], {})
        if report.bundle:
            print_differences([report, report], differences(report.bundle.manifest, report.bundle.manifest))
        json.loads(json_text(bundle_json(report)))
        path.write_bytes(content)
    shown = capsys.readouterr().out
    assert not {"\x1b", "\ud83d"} & set(shown)


def test_a_camera_is_on_the_first_screen_and_is_a_difference(
    tmp_path: Path, checkpoint_of: Callable[..., Path], copy: Path, inspect: Inspect
) -> None:
    from vla_edge.export.pipeline import ExportOptions, export_bundle

    camera = Camera(height=48, width=64, channels="bgr")
    seeing = export_bundle(ExportOptions(checkpoint_of("pure"), tmp_path / "seeing", camera=camera))[0].folder
    code, shown, _ = inspect(seeing)
    assert code == 0
    assert "takes a camera's frames as they are: 64 wide, 48 high, BGR" in shown.partition("runs here")[0]
    assert "in: frame uint8 [1, 48, 64, 3]" in shown
    assert json.loads(inspect(seeing, "--json")[1])["camera"] == {
        "height": 48,
        "width": 64,
        "channels": "bgr",
    }
    _, differences, _ = inspect(copy, seeing)
    assert re.search(r"camera +not there +64 wide, 48 high, BGR", differences)
