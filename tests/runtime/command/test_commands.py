"""What all commands have in common: how they begin, what they say when something is missing, how they end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from command_process import COMMANDS, module_of, run

from vla_edge.runtime.command.extras import EXTRA_OF, missing_packages
from vla_edge.runtime.version import VERSION

BASE = {"click", "msgspec", "numpy", "PIL", "rich"}


def started(arguments: list[str], **world: object) -> tuple[int, str, str]:
    done = run(arguments, **world)  # type: ignore[arg-type]
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("option", ["-h", "--help", "--version"])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_version_need_no_extra(command: str, option: str) -> None:
    code, out, err = started([command, option], hidden=tuple(EXTRA_OF))
    assert (code, err) == (0, "")
    assert out.startswith("Usage: vla-") if option != "--version" else VERSION in out


@pytest.mark.parametrize(
    ("arguments", "missing", "extras"),
    [
        (
            ["vla-export", "--ckpt", "CKPT"],
            "torch, transformers, onnx and onnxruntime are",
            "export,onnxruntime",
        ),
        (["vla-inspect", "CKPT"], "torch is", "export"),
        (["vla-sample", "--layout", "pure", "-o", "NEW/"], "torch and tokenizers are", "export"),
        (["vla-sample", "--layout", "pure", "--no-tokenizer", "-o", "NEW/"], "torch is", "export"),
        (["vla-sample", "--episodes", "NEW/"], "h5py is", "episodes"),
        (["vla-bench", "BUNDLE"], "psutil, onnx, torch and transformers are", "bench"),
        (["vla-bench", "BUNDLE", "--backends", "onnxruntime"], "psutil and onnx are", "bench"),
        (["vla-bench", "compare", "a.json", "b.json"], "scipy is", "bench"),
        (["vla-bisect", "BUNDLE"], "onnx and onnxruntime are", "export,onnxruntime"),
        (["vla-run", "BUNDLE", "IMAGE"], "onnxruntime is", "onnxruntime"),
        (["vla-run", "BUNDLE", "EPISODE"], "h5py is", "episodes"),
        (["vla-drive", "BUNDLE", "--camera", "EPISODE", "--show", "drive.rrd"], "rerun is", "rerun"),
        (["vla-replay", "BUNDLE", "EPISODE"], "h5py is", "episodes"),
        (["vla-replay", "BUNDLE", "EPISODE", "-o", "steps.parquet"], "pyarrow is", "episodes"),
        (["vla-replay", "BUNDLE", "EPISODE", "--page", "page.html"], "jinja2 is", "page"),
        (["vla-replay", "BUNDLE", "EPISODE", "--rerun", "replay.rrd"], "rerun is", "rerun"),
        (
            ["vla-replay", "BUNDLE", "EPISODE", "--against", "torch", "--checkpoint", "CKPT"],
            "torch and transformers are",
            "export",
        ),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_a_missing_extra_is_named_with_what_installs_it(
    arguments: list[str],
    missing: str,
    extras: str,
    bundle_of: Callable[..., Path],
    tmp_path: Path,
    checkpoint_of: Callable[..., Path],
) -> None:
    from PIL import Image

    Image.effect_noise((32, 32), 50).convert("RGB").save(tmp_path / "frame.png")
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    places = {
        "CKPT": str(checkpoint_of("pure")),
        "BUNDLE": str(bundle_of("pure")),
        "IMAGE": str(tmp_path / "frame.png"),
        "EPISODE": str(tmp_path / "a.h5"),
        "NEW/": f"{tmp_path}/new/",
    }
    code, out, err = started(
        [places.get(part, part) for part in arguments], hidden=tuple(EXTRA_OF), cwd=tmp_path
    )
    assert (code, out) == (1, "")
    here = "" if extras == "onnxruntime" else " here"
    assert err.endswith(f"error: {missing} not installed{here}.\npip install 'vla-edge[{extras}]'\n")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("package", ["torch", "onnx", "transformers"])
def test_one_missing_package_is_enough(package: str, checkpoint_of: Callable[..., Path]) -> None:
    code, _, err = started(["vla-export", "--ckpt", str(checkpoint_of("pure"))], hidden=(package,))
    assert (code, err) == (1, f"error: {package} is not installed here.\npip install 'vla-edge[export]'\n")


def test_a_package_of_the_base_that_is_missing_is_named_too() -> None:
    code, _, err = started(["vla-run", "x", "."], hidden=("msgspec",))
    assert code in (1, 2)
    assert err.startswith("error: ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["click", "CLI", "vla_edge.runtime.command.failures"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_while_a_command_begins_ends_it_quietly(
    command: str, moment: str, number: signal.Signals
) -> None:
    moment = module_of(command) if moment == "CLI" else moment
    code, out, err = started([command, "--version"], moment=moment, number=number)
    assert (code, out, err) == (128 + number, "", "interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "moment",
    ["torch", "torch._utils", "numpy.linalg", "transformers", "vla_edge.export.bundle.samples.golden"],
)
def test_a_signal_while_libraries_are_imported_ends_it_quietly_and_leaves_nothing(
    moment: str, number: signal.Signals, checkpoint_of: Callable[..., Path], tmp_path: Path
) -> None:
    arguments = ["vla-export", "--ckpt", str(checkpoint_of("pure")), "-o", str(tmp_path / "engines")]
    code, out, err = started(arguments, moment=moment, number=number)
    assert (code, out) == (128 + number, "")
    assert err.endswith("interrupted\n")
    assert not list(tmp_path.glob("engines/*"))


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As `nohup` has it."""
    ignore = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    code, out, _ = started(["vla-run", "--version"], before=ignore, moment="click", number=signal.SIGHUP)
    assert code == 0
    assert VERSION in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_process_1_ends_by_a_signal_too(
    number: signal.Signals, checkpoint_of: Callable[..., Path], tmp_path: Path
) -> None:
    prefix = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a PID namespace is not permitted here")
    arguments = ["vla-export", "--ckpt", str(checkpoint_of("pure")), "-o", str(tmp_path / "engines")]
    # sent from the child of a process 1, as `docker stop` sends it: from elsewhere
    before = "assert os.getpid() == 1"
    done = run(arguments, before=before, moment="transformers", number=number, prefix=prefix)
    assert done.returncode == 128 + number
    assert done.stderr.endswith("interrupted\n")


ASCII = [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}]


@pytest.mark.parametrize("environment", ASCII, ids=["PYTHONIOENCODING", "LC_ALL=C"])
@pytest.mark.parametrize("json", [False, True], ids=["text", "json"])
def test_an_output_without_all_letters_gets_escapes(
    environment: dict[str, str], json: bool, bundle_of: Callable[..., Path], tmp_path: Path
) -> None:
    from json import loads

    from PIL import Image

    frame = tmp_path / "컵 é.png"
    Image.effect_noise((32, 32), 50).convert("RGB").save(frame)
    flags = ["--json"] if json else []
    code, out, _ = started(
        ["vla-run", str(bundle_of("pure")), str(frame), *flags], environment={**os.environ, **environment}
    )
    assert code == 0
    if json:
        assert loads(out)["image"].startswith(str(tmp_path))


@pytest.mark.parametrize("environment", ASCII, ids=["PYTHONIOENCODING", "LC_ALL=C"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["vla-export", "--list-settings"],
        ["vla-run", "-h"],
        ["vla-inspect", "CKPT"],
        ["vla-bench", "컵"],
        ["vla-build", "컵"],
        ["vla-bisect", "컵"],
        ["vla-sample", "--layout", "컵", "-o", "x"],
    ],
    ids=lambda value: value[0],
)
def test_no_command_fails_for_a_letter(
    environment: dict[str, str], arguments: list[str], checkpoint_of: Callable[..., Path], tmp_path: Path
) -> None:
    filled = [str(checkpoint_of("pure")) if part == "CKPT" else part for part in arguments]
    code, _, err = started(filled, environment={**os.environ, **environment}, cwd=tmp_path)
    assert code == (2 if "컵" in arguments else 0)
    assert "UnicodeEncodeError" not in err


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
@pytest.mark.parametrize(
    "arguments",
    [["vla-run", "BUNDLE", "IMAGE"], ["vla-export", "--list-settings"]],
    ids=lambda value: value[0],
)
def test_a_stream_that_is_closed_stops_nothing(
    closed: str, arguments: list[str], bundle_of: Callable[..., Path], tmp_path: Path
) -> None:
    from PIL import Image

    Image.effect_noise((32, 32), 50).convert("RGB").save(tmp_path / "frame.png")
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    places = {"BUNDLE": str(bundle_of("pure")), "IMAGE": str(tmp_path / "frame.png")}
    filled = [places.get(part, part) for part in arguments]
    done = run(filled, prefix=["sh", "-c", f'exec "$@" {closed}', "sh"])
    assert (done.returncode, done.stderr if "2>" in closed else "") == (0, "")


@pytest.mark.parametrize(
    "arguments", [["vla-export", "--list-settings"], ["vla-bench", "-h"], ["vla-run", "--version"]]
)
def test_an_output_on_a_full_disk_is_told_in_words(arguments: list[str]) -> None:
    done = run(arguments, prefix=["sh", "-c", 'exec "$@" > /dev/full', "sh"])
    assert (done.returncode, done.stderr) == (
        1,
        "error: a disk is full.\nFree some space, or write elsewhere.\n",
    )


def test_every_command_begins_at_its_own_entry_point() -> None:
    from vla_edge.runtime.command import start

    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    found = dict(re.findall(r'^(vla-\w+) = "(.*)"$', text, re.MULTILINE))
    assert found == {name: f"vla_edge.runtime.command.start:{name.replace('-', '_')}" for name in COMMANDS}
    assert all(callable(getattr(start, name.replace("-", "_"))) for name in COMMANDS)


def test_a_machine_without_a_wheel_of_cyclonedds_hears_of_other_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert "vla-node --transport rclpy" in missing_packages(["cyclonedds"], "ros2").hint
    assert missing_packages(["h5py"]).hint == "pip install 'vla-edge[episodes]'"
