"""What a killed process left is removed by the next one in its place; what a living one writes is not."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vla_edge.runtime.files import staging
from vla_edge.runtime.files.atomic import staging_file, write_all_atomically, write_atomically
from vla_edge.runtime.files.staging import (
    RESUMED_SUFFIX,
    claimed,
    leftovers,
    locked,
    remove_leftovers,
    resumed_folder,
    staging_folder,
    staging_path,
    target_of,
)

# Each writes in the folder given and says so when it is in the middle of it.
FOLDER = """
with staging_folder(place / "bundle") as folder:
    (folder / "half").write_text("x")
    print(folder.name, flush=True); sys.stdin.read()
"""
FILE = """
def half(file):
    file.write(b"half"); file.flush()
    print(Path(file.name).name, flush=True); sys.stdin.read()
write_atomically(place / "report.json", half)
"""


def start(script: str, place: Path, *prefix: str) -> subprocess.Popen[str]:
    head = (
        "import sys; from pathlib import Path; from vla_edge.runtime.files.staging import staging_folder\n"
        "from vla_edge.runtime.files.atomic import write_atomically\n"
        f"place = Path({str(place)!r})\n"
    )
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", head + script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("script", [FOLDER, FILE], ids=["folder", "file"])
def test_a_killed_process_s_is_removed_by_the_next_and_a_living_one_s_is_not(
    tmp_path: Path, script: str
) -> None:
    with start(script, tmp_path) as killed, start(script, tmp_path) as living:
        assert killed.stdout is not None
        assert living.stdout is not None
        left, held = killed.stdout.readline().strip(), living.stdout.readline().strip()
        killed.kill()
        killed.wait()
        assert {left, held} <= set(names(tmp_path))
        write_atomically(tmp_path / "other", lambda file: file.write(b"whole"))
        assert held in names(tmp_path)
        assert left not in names(tmp_path)
        living.communicate("", timeout=30)
    assert [name for name in names(tmp_path) if name.startswith(".")] == []


@pytest.mark.parametrize("kept", ["folder", "file"])
def test_a_place_for_a_moment_removes_what_dead_processes_left_too(tmp_path: Path, kept: str) -> None:
    """As a bisection's graph beside the model, which never gets a name of its own."""
    left = staging_path(tmp_path / "model.onnx")
    if kept == "file":
        left.write_bytes(b"half")
    else:
        left.mkdir()
    with staging_file(tmp_path / "model.onnx") as (temporary, _):
        assert names(tmp_path) == [temporary.name]
    assert names(tmp_path) == []


@pytest.mark.parametrize("script", [FOLDER, FILE], ids=["folder", "file"])
def test_process_1_of_two_containers_that_share_a_folder_do_not_meet(tmp_path: Path, script: str) -> None:
    prefix = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a PID namespace is not permitted here")
    with start(script, tmp_path, *prefix) as first, start(script, tmp_path, *prefix) as second:
        assert first.stdout is not None
        assert second.stdout is not None
        mine, theirs = first.stdout.readline().strip(), second.stdout.readline().strip()
        assert mine != theirs
        first.kill()  # and with it its process 1
        first.wait()
        second.communicate("", timeout=30)
        assert second.returncode == 0
    remove_leftovers(tmp_path)
    assert [name for name in names(tmp_path) if name.startswith(".")] == []


@pytest.mark.parametrize(
    "name",
    [".bundle.partial", ".bundle.0123456789abcdef.partial", "bundle.vla-0123456789abcdef.partial",
     ".bundle.vla-0123456789abcde.partial", ".bundle.vla-0123456789ABCDEF.partial",
     ".bundle.vla-0123456789abcdef.partial.bak"],
)  # fmt: skip
def test_what_is_only_like_ours_is_not_removed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [name]


@pytest.mark.parametrize(
    "name", ["bundle", "a b.c", "컵", ".hidden", "x.vla-0123456789abcdef.partial", "a\nb"]
)
def test_a_staging_place_tells_its_target(tmp_path: Path, name: str) -> None:
    assert target_of(staging_path(tmp_path / name)) == tmp_path / name
    assert target_of(staging_path(tmp_path / name, ".old")) is None


def test_of_a_link_with_such_a_name_what_it_points_to_stays(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").touch()
    staging_path(tmp_path / "x").symlink_to(precious)
    remove_leftovers(tmp_path)
    assert (precious / "thesis.tex").exists()


def test_a_pipe_with_such_a_name_stops_nobody(tmp_path: Path) -> None:
    os.mkfifo(staging_path(tmp_path / "x"))
    remove_leftovers(tmp_path)


def test_without_locks_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(descriptor: int, kind: int) -> None:
        raise OSError(9, "Bad file descriptor")

    staging_path(tmp_path / "x").mkdir()
    monkeypatch.setattr(fcntl, "flock", unsupported)
    assert list(leftovers(tmp_path)) == []
    with staging_folder(tmp_path / "y") as folder:
        assert folder.is_dir()
    assert len(names(tmp_path)) == 1


def test_a_folder_that_a_neighbour_tidied_away_too_early_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, taken = staging.take_lock, []

    def late(descriptor: int) -> None:
        if not taken:
            taken.append(descriptor)
            remove_leftovers(tmp_path)
        real(descriptor)

    monkeypatch.setattr(staging, "take_lock", late)
    with staging_folder(tmp_path / "bundle") as folder:
        (folder / "file").touch()
    assert taken
    assert names(tmp_path) == []


def test_a_folder_that_a_neighbour_removed_before_it_was_opened_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tidied = Path.mkdir, []

    def mkdir(path: Path, mode: int = 0o777) -> None:
        real(path, mode)
        if len(tidied) < 2:
            tidied.append(path)
            remove_leftovers(tmp_path)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with staging_folder(tmp_path / "bundle") as folder:
        assert folder.is_dir()
    assert len(tidied) == 2
    assert names(tmp_path) == []


def test_a_folder_to_write_into_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"), staging_folder(tmp_path / "nowhere" / "bundle"):
        pass


def test_a_second_signal_does_not_break_the_clean_up(tmp_path: Path) -> None:
    script = (
        "import os, shutil, signal, sys\nfrom pathlib import Path\n"
        "from vla_edge.runtime.files import staging\nfrom vla_edge.runtime.files.staging import staging_folder\n"
        "real = shutil.rmtree\n"
        "def slow(*given, **options):\n"
        "    os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGTERM)\n"
        "    real(*given, **options)\n"
        "shutil.rmtree = slow\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "try:\n"
        "    with staging_folder(Path(sys.argv[1]) / 'bundle') as folder:\n"
        "        (folder / 'file').touch()\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=30, check=False)
    assert done.returncode == 130
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_command_that_is_ended_leaves_no_half_of_a_file(
    tmp_path: Path, number: signal.Signals, checkpoint_of: Callable[..., Path]
) -> None:
    from command_process import run

    for arguments in (["vla-sample", "--layout", "pure", "-o", str(tmp_path / "a.pth")],):
        # when the sample's last import is done, its staging folder is there
        done = run(arguments, moment="torch.serialization", number=number)
        assert done.returncode == 128 + number
        assert "Traceback" not in done.stderr
        assert names(tmp_path) == []


@pytest.mark.parametrize("number_that_fails", [1, 2, 3])
def test_of_several_files_none_appears_when_one_cannot_be_written(
    tmp_path: Path, number_that_fails: int
) -> None:
    (tmp_path / "2").write_text("earlier")

    def write(file: object, number: int) -> None:
        if number == number_that_fails:
            raise OSError(28, "No space left on device")
        file.write(b"new")  # type: ignore[attr-defined]

    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/{number_that_fails}'"):
        write_all_atomically(
            {tmp_path / str(number): lambda file, number=number: write(file, number) for number in (1, 2, 3)}
        )
    assert names(tmp_path) == ["2"]
    assert (tmp_path / "2").read_text() == "earlier"


def test_who_asks_for_a_locked_folder_waits_for_the_other(tmp_path: Path) -> None:
    import threading

    order: list[str] = []

    def other() -> None:
        with locked(tmp_path):
            order.append("other")

    with locked(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


class TestResuming:
    def test_what_a_killed_process_left_of_the_same_target_is_gone_on_with(self, tmp_path: Path) -> None:
        child = start(FOLDER, tmp_path)
        assert child.stdout is not None
        name = child.stdout.readline().strip()
        child.kill()
        child.wait()
        with resumed_folder(tmp_path / "other") as folder:  # of another target: removed
            assert folder.name != name
            assert not (tmp_path / name).exists()
        left = staging_path(tmp_path / "bundle")
        left.mkdir()
        (left / "half").write_text("x")
        with resumed_folder(tmp_path / "bundle") as folder:
            assert (folder, names(folder)) == (left, ["half"])
            remove_leftovers(tmp_path)  # a neighbour's
            assert names(folder) == ["half"]
        assert names(tmp_path) == []

    @pytest.mark.parametrize("spared", [True, False])
    def test_it_goes_with_no_others_leftovers_but_when_another_target_has_no_use_for_it(
        self, tmp_path: Path, spared: bool
    ) -> None:
        left = staging_path(tmp_path / "bundle", RESUMED_SUFFIX)
        left.mkdir()
        with staging_folder(tmp_path / "other"):
            assert left.exists()
        assert list(leftovers(tmp_path)) == [left]
        with resumed_folder(tmp_path / "other", spares=lambda folder: spared and folder == left):
            assert left.exists() == spared
        with resumed_folder(tmp_path / "bundle") as folder:
            assert (folder == left) == spared
        assert names(tmp_path) == []

    def test_a_file_or_link_of_that_name_is_not_taken_for_a_folder(self, tmp_path: Path) -> None:
        staging_path(tmp_path / "bundle").write_text("x")
        staging_path(tmp_path / "bundle").symlink_to(tmp_path)
        with resumed_folder(tmp_path / "bundle") as folder:
            assert names(folder) == []


def test_a_claim_does_not_wait_for_another(tmp_path: Path) -> None:
    with claimed(tmp_path), pytest.raises(BlockingIOError), claimed(tmp_path):
        pass
    with claimed(tmp_path):
        pass


@pytest.mark.parametrize("keeps", [True, False])
def test_a_block_that_fails_may_leave_its_folder_to_the_next(tmp_path: Path, keeps: bool) -> None:
    place = tmp_path / "bundle"

    def fails() -> None:
        with resumed_folder(place, lambda folder: keeps and (folder / "half").exists()) as folder:
            (folder / "half").write_text("x")
            raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        fails()
    assert len(names(tmp_path)) == keeps
    with resumed_folder(place, lambda folder: True) as again:
        assert names(again) == (["half"] if keeps else [])
    assert names(tmp_path) == []  # it did not fail
