"""A new folder takes an earlier one's place, and whatever ends the process leaves one of them there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vla_edge.runtime import exchange as module
from vla_edge.runtime.bundle import Bundle
from vla_edge.runtime.errors import BundleError
from vla_edge.runtime.exchange import exchange, recover, require_exchangeable
from vla_edge.runtime.staging import staging_folder

# The process ends itself, or is interrupted, before or after the rename of that number.
SCRIPT = """
import os, signal, sys
from pathlib import Path
from vla_edge.runtime import exchange as module
from vla_edge.runtime.exchange import exchange
from vla_edge.runtime.staging import staging_folder

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


def test_whether_a_folder_could_be_replaced_is_asked_without_moving_it(earlier: Path) -> None:
    inode = earlier.stat().st_ino
    require_exchangeable(earlier)
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
