"""A new folder takes an earlier one's place, and whatever ends the process leaves one of them there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.errors import BundleError
from vla_edge.runtime.files import exchange as module
from vla_edge.runtime.files.exchange import exchange, recover, require_exchangeable
from vla_edge.runtime.files.renaming import rename_new
from vla_edge.runtime.files.staging import remove_leftovers, staging_folder

# The process ends itself, or is interrupted, before or after the rename of that number.
SCRIPT = """
import os, signal, sys
from pathlib import Path
from vla_edge.runtime.files import exchange as module
from vla_edge.runtime.files.exchange import exchange
from vla_edge.runtime.files.staging import staging_folder

parent, steps, number, when, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
real, called = os.rename, [0]

def rename(*paths):
    called[0] += 1
    if called[0] == count and when == "before":
        os.kill(os.getpid(), number)
    real(*paths)
    if called[0] == count and when == "after":
        os.kill(os.getpid(), number)

os.rename = rename
if steps == "one":
    one = module._exchange_in_one_step
    def killed(new, target):
        if when == "before":
            os.kill(os.getpid(), number)
        done = one(new, target)
        if when == "after":
            os.kill(os.getpid(), number)
        return done
    module._exchange_in_one_step = killed
else:
    module._exchange_in_one_step = lambda new, target: False
with staging_folder(parent / "policy") as new:
    (new / "epoch").write_text("new")
    exchange(new, parent / "policy")
"""


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "epoch").write_text("old")
    return folder


def replace(target: Path) -> None:
    with staging_folder(target) as new:
        (new / "epoch").write_text("new")
        exchange(new, target)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["one step", "two steps"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "two steps":
        monkeypatch.setattr(module, "_exchange_in_one_step", lambda new, target: False)


@pytest.mark.usefixtures("_both_ways")
def test_the_new_folder_takes_the_place_and_nothing_is_left(earlier: Path) -> None:
    replace(earlier)
    assert (earlier / "epoch").read_text() == "new"
    assert names(earlier.parent) == ["policy"]


@pytest.mark.usefixtures("_both_ways")
def test_of_a_link_the_link_goes_and_what_it_points_to_stays(earlier: Path) -> None:
    link = earlier.with_name("link")
    link.symlink_to(earlier.name)
    replace(link)
    assert (link / "epoch").read_text() == "new"
    assert not link.is_symlink()
    assert (earlier / "epoch").read_text() == "old"
    assert names(earlier.parent) == ["link", "policy"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_rename_that_fails_leaves_the_earlier_folder(
    earlier: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, called = os.rename, []

    def rename(source: object, target: object) -> None:
        called.append(source)
        if len(called) == count:
            raise OSError(5, "Input/output error")
        real(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_exchange_in_one_step", lambda new, target: False)
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match="Input/output error"):
        replace(earlier)
    assert (earlier / "epoch").read_text() == ("new" if count == 3 else "old")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("steps", "when", "count"),
    [("one", "before", 0), ("one", "after", 0)]
    + [("two", when, n) for when in ("before", "after") for n in (1, 2, 3)],
)
def test_whatever_ends_the_process_at_a_rename_one_of_the_two_is_there_at_the_next_start(
    earlier: Path, number: signal.Signals, steps: str, when: str, count: int
) -> None:
    parent = earlier.parent
    arguments = [str(parent), steps, str(int(number)), when, str(count)]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, timeout=30, check=False
    )
    assert done.returncode == -number
    if number != signal.SIGKILL:  # held back for these steps
        assert (earlier / "epoch").read_text() == "new"
    between = steps == "two" and number == signal.SIGKILL and (when, count) in (("after", 1), ("before", 2))
    assert earlier.exists() != between
    if between:
        with pytest.raises(
            BundleError, match=r"does not exist[\s\S]*bring it back: mv .*\.policy\.vla-\w+\.old .*policy"
        ):
            Bundle.open(earlier)
    said = list(recover(parent))
    assert bool(said) == (
        steps == "two" and number == signal.SIGKILL and (when, count) not in (("before", 1), ("after", 3))
    )
    assert (earlier / "epoch").read_text() in ("old", "new")
    if between:
        assert said == [f"{earlier} is back in its place: an export that should replace it was killed."]
        assert (earlier / "epoch").read_text() == "old"
    with staging_folder(earlier):
        pass
    assert [name for name in names(parent) if not name.endswith(".old")] == ["policy"]


def test_what_a_living_neighbour_has_set_aside_is_left_to_him(earlier: Path) -> None:
    import fcntl

    aside = earlier.with_name(".policy.vla-0123456789abcdef.old")
    earlier.rename(aside)
    lock = os.open(aside, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert list(recover(aside.parent)) == []
    os.close(lock)
    assert len(list(recover(aside.parent))) == 1
    assert (earlier / "epoch").read_text() == "old"


@pytest.mark.parametrize("late", ["empty", "full"])
def test_what_takes_the_name_while_an_earlier_folder_is_brought_back_stays(
    earlier: Path, late: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside = earlier.with_name(".policy.vla-0123456789abcdef.old")
    earlier.rename(aside)

    def rename(source: Path, target: Path) -> None:
        target.mkdir()
        if late == "full":
            (target / "epoch").write_text("new")
        rename_new(source, target)

    monkeypatch.setattr(module, "rename_new", rename)
    assert list(recover(aside.parent)) == []
    assert (aside / "epoch").read_text() == "old"
    assert names(earlier) == ([] if late == "empty" else ["epoch"])


def test_an_earlier_folder_that_cannot_be_brought_back_is_named(
    earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside = earlier.with_name(".policy.vla-0123456789abcdef.old")
    earlier.rename(aside)

    def refused(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")  # another user's, in a folder like /tmp

    monkeypatch.setattr(module, "rename_new", refused)
    assert list(recover(aside.parent)) == [
        f"{aside} was set aside by an export that was killed; it cannot be moved back: Operation not permitted."
    ]


def test_whether_a_folder_could_be_replaced_is_asked_without_moving_it(earlier: Path) -> None:
    inode = earlier.stat().st_ino
    require_exchangeable(earlier)
    assert earlier.stat().st_ino == inode
    assert names(earlier.parent) == ["policy"]


def tidy(folder: Path) -> None:
    """All that another command, and a careless hand, may do to hidden folders."""
    list(recover(folder))
    remove_leftovers(folder)
    for path in folder.glob(".*"):
        shutil.rmtree(path)


@pytest.mark.parametrize("clean", [remove_leftovers, lambda folder: list(recover(folder)), tidy])
@pytest.mark.parametrize("moment", ["mkdir", "touch", "rename", "listdir"])
def test_a_neighbour_that_tidies_at_any_moment_of_the_question_takes_nothing(
    earlier: Path, clean: Callable[[Path], object], moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode, place, done = earlier.stat().st_ino, Path if moment in ("mkdir", "touch") else os, []
    real = getattr(place, moment)

    def disturbed(*given: object, **options: object) -> object:
        if moment == "mkdir":
            real(*given, **options)
        if not done:
            done.append(moment)
            clean(earlier.parent)
        return None if moment == "mkdir" else real(*given, **options)

    monkeypatch.setattr(place, moment, disturbed)
    require_exchangeable(earlier)
    monkeypatch.undo()
    assert done
    assert earlier.stat().st_ino == inode
    assert (earlier / "epoch").read_text() == "old"
    assert names(earlier.parent) == ["policy"]


def test_a_folder_that_moved_because_the_question_was_tidied_away_comes_back_after_a_kill(
    earlier: Path,
) -> None:
    script = (
        "import os, shutil, signal, sys; from pathlib import Path; from vla_edge.runtime.files import exchange\n"
        "real = os.rename\n"
        "def rename(source, place):\n"
        "    shutil.rmtree(place); real(source, place); os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.rename = rename\n"
        "exchange.require_exchangeable(Path(sys.argv[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(earlier)], timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not earlier.exists()
    remove_leftovers(earlier.parent)
    assert len(list(recover(earlier.parent))) == 1
    assert (earlier / "epoch").read_text() == "old"
    assert names(earlier.parent) == ["policy"]


def test_what_the_question_left_when_it_was_killed_is_removed_without_a_word(earlier: Path) -> None:
    for number, inside in enumerate((None, ".vla-probe")):
        left = earlier.with_name(f".policy.vla-{number:016x}.old")
        left.mkdir()
        if inside:
            (left / inside).touch()
    assert list(recover(earlier.parent)) == []
    assert names(earlier.parent) == ["policy"]


# Asks again and again, while neighbours do and tidy.
ASKING = """
import sys
from pathlib import Path
from vla_edge.runtime.files.exchange import recover, require_exchangeable
from vla_edge.runtime.files.renaming import rename_new
from vla_edge.runtime.files.staging import remove_leftovers, staging_folder

target, said = Path(sys.argv[1]), []
for _ in range(300):
    said += recover(target.parent)
    require_exchangeable(target)
    remove_leftovers(target.parent)
    with staging_folder(target) as folder:
        (folder / "file").touch()
print(said)
"""


def test_processes_that_ask_and_tidy_at_once_leave_the_folder_alone(earlier: Path) -> None:
    inode = earlier.stat().st_ino
    command = [sys.executable, "-c", ASKING, str(earlier)]
    asking = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [each.communicate(timeout=60)[0] for each in asking] == ["[]\n"] * 3
    assert [each.returncode for each in asking] == [0] * 3
    assert earlier.stat().st_ino == inode
    assert names(earlier.parent) == ["policy"]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Mounts, or skips where that is not permitted."""
    places: list[Path] = []

    def mount(place: Path, *arguments: str) -> None:
        done = subprocess.run(["mount", *arguments, str(place)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
        places.append(place)

    yield mount
    for place in reversed(places):
        subprocess.run(["umount", str(place)], check=True)


def test_a_folder_of_a_lower_layer_is_known_before_the_work(
    tmp_path: Path, mounted: Callable[..., None]
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    mounted(scratch, "-t", "tmpfs", "tmpfs")
    for name in ("lower/policy", "upper", "work", "merged"):
        (scratch / name).mkdir(parents=True)
    layers = f"lowerdir={scratch}/lower,upperdir={scratch}/upper,workdir={scratch}/work"
    mounted(scratch / "merged", "-t", "overlay", "overlay", "-o", layers)
    with pytest.raises(OSError, match="cross-device"):
        require_exchangeable(scratch / "merged" / "policy")
    assert names(scratch / "merged") == ["policy"]
    own = scratch / "merged" / "own"
    own.mkdir()
    require_exchangeable(own)
    replace(own)
    assert (own / "epoch").read_text() == "new"


def test_a_folder_that_another_is_mounted_on_is_known_before_the_work(
    earlier: Path, mounted: Callable[..., None]
) -> None:
    mounted(earlier, "-t", "tmpfs", "tmpfs")
    with pytest.raises(OSError, match="busy"):
        require_exchangeable(earlier)
