"""The node as a process, real DDS on loopback, and this process as camera, operator and robot."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import psutil
import pytest
from dds_peer import PATIENCE_S, Peer
from lively import jpeg

from vla_edge.bench.proof.dds.world import loopback_alone
from vla_edge.runtime.ros2.topics import Topics

CAMERA_MS = 400.0
_BUSY_S = 1.5  # of a machine that does other things
PARAMETERS = f"""
vla_edge:
  ros__parameters:
    rate_hz: 20.0
    deadline_ms: 3000.0  # a busy machine is no fault here
    camera_ms: {CAMERA_MS}
    max_image_bytes: 1000000
"""


@pytest.fixture(scope="module", autouse=True)
def _alone() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in loopback_alone().items():
            patch.setenv(name, value)
        yield


@contextlib.contextmanager
def node_process(bundle: Path, folder: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    file = folder / "node.yaml"
    file.write_text(PARAMETERS)
    command = [sys.executable, "-m", "vla_edge.runtime.ros2.cli", str(bundle), "--params", str(file)]
    with subprocess.Popen(
        [*command, *more, "--threads", "1"], stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def peer(_alone: None) -> Iterator[Peer]:
    with contextlib.closing(Peer()) as found:
        yield found


@pytest.fixture(scope="module")
def running(
    peer: Peer, pristine_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[psutil.Process]:
    """One node for all that does not end it."""
    with node_process(pristine_bundle, tmp_path_factory.mktemp("node")) as process:
        peer.wait_for(lambda: peer.statuses, "the node says nothing")
        yield psutil.Process(process.pid)


@pytest.fixture
def driving(peer: Peer, running: psutil.Process) -> Iterator[Peer]:
    """It moves, whatever was before; frames come until the test's end."""
    with peer.pumping():
        _set_off(peer)
        yield peer


def _set_off(peer: Peer) -> None:
    peer.say("reset")
    peer.wait_for_state("stopped")
    peer.say("start")
    peer.wait_for(lambda: peer.moves, "it does not move")


def _stands_for_a_while(peer: Peer) -> None:
    """Though frames come."""
    with peer.pumping():
        begin, end_s = len(peer.velocities), time.monotonic() + 0.7
        peer.wait_for(lambda: time.monotonic() > end_s and len(peer.velocities) > begin + 5, "no commands")
    assert {velocity[1:] for velocity in peer.velocities[begin:]} == {(0.0, 0.0)}


def test_it_stands_until_start_and_says_so(peer: Peer, running: psutil.Process) -> None:
    _stands_for_a_while(peer)
    assert peer.statuses[-1]["state"] == "stopped"
    assert peer.statuses[-1]["reason"] == "waits for start."
    assert peer.diagnoses[-1] == (1, "stopped: waits for start.")


def test_frames_become_velocities_and_results_that_name_their_frame(driving: Peer) -> None:
    driving.wait_for_state("moving")
    driving.wait_for(lambda: driving.results, "no result")
    known = driving.results[-1]
    assert known["stamp"]["sec"] > 1.7e9
    assert known["instruction"] == "컵까지 가세요"
    assert (known["linear_x"], known["linear_y"]) in {velocity[1:] for velocity in driving.velocities}
    driving.wait_for(lambda: driving.diagnoses[-1] == (0, "moving"), "not well")


def test_a_lost_camera_stops_it_in_time_and_for_good(peer: Peer, running: psutil.Process) -> None:
    with peer.pumping():
        _set_off(peer)
    lost_s = time.monotonic()
    peer.wait_for(lambda: not peer.moves, "it moves on")
    assert peer.velocities[-1][0] - lost_s < CAMERA_MS / 1e3 + _BUSY_S
    assert peer.wait_for_state("fault")["cause"] == "camera"
    _stands_for_a_while(peer)


def test_a_damaged_jpeg_stops_it_until_reset_and_start(driving: Peer) -> None:
    assert driving.fault_of(b"\xff\xd8\xff\xe0 no picture")["cause"] == "frame"
    _stands_for_a_while(driving)
    driving.say("start")
    driving.wait_for(lambda: "reset first" in driving.statuses[-1]["answer"], "no answer")
    _stands_for_a_while(driving)
    with driving.pumping():
        _set_off(driving)


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(100), jpeg(0)[:-400]], ids=["empty", "gif", "cut"])
def test_what_is_no_frame_stops_it(driving: Peer, data: bytes) -> None:
    assert "an image on /camera/image/compressed" in driving.fault_of(data)["reason"]


def test_messages_beyond_the_bound_take_no_memory_and_are_no_frames(
    peer: Peer, running: psutil.Process
) -> None:
    with peer.pumping():
        _set_off(peer)
    before = running.memory_info().rss
    for _ in range(10):
        peer.show(jpeg(0) + bytes(20_000_000))
        time.sleep(0.02)
    assert peer.wait_for_state("fault")["cause"] == "camera"
    assert running.memory_info().rss - before < 24 << 20


def test_a_flood_takes_no_memory(driving: Peer, running: psutil.Process) -> None:
    before = running.memory_info().rss
    for at in range(300):
        driving.show(jpeg(at % 4) + bytes(900_000))
        driving.set_task("컵까지 가세요")
        assert running.memory_info().rss - before < 64 << 20
    driving.wait_for_state("moving")


def test_words_stop_it_and_so_does_what_is_no_word(driving: Peer) -> None:
    for word in ("stop", "halt!!"):
        driving.say(word)
        driving.wait_for(lambda: not driving.moves, "it moves on")
        assert driving.wait_for_state("stopped")["cause"] is None
        driving.say("start")
        driving.wait_for(lambda: driving.moves, "it does not move")


def test_a_task_changes_what_it_does_and_an_unknown_one_stops_it(driving: Peer) -> None:
    driving.set_task("go to the cup")
    driving.wait_for(lambda: driving.results[-1]["instruction"] == "go to the cup", "not followed")
    assert driving.moves
    driving.set_task("fly to the moon")
    assert "fly to the moon" in driving.wait_for_state("stopped")["reason"]
    driving.say("start")
    driving.wait_for(lambda: "was refused" in driving.statuses[-1]["answer"], "no answer")
    _stands_for_a_while(driving)
    driving.set_task("컵까지 가세요")


def test_another_type_under_the_same_name_is_no_camera(peer: Peer, running: psutil.Process) -> None:
    with peer.pumping():
        _set_off(peer)
    with peer.liar() as lie:
        lie()
        assert peer.wait_for_state("fault")["cause"] == "camera"
        for _ in range(10):
            lie()
    _stands_for_a_while(peer)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_last_command_of_a_node_that_is_told_to_end_is_a_stop(
    peer: Peer, pristine_bundle: Path, tmp_path: Path, number: signal.Signals
) -> None:
    names = fields(Topics())
    prefix = f"/{number.name.lower()}"
    topics = Topics(*(f"{prefix}{field.default}" for field in names))
    remaps = [f"-r{field.default}:={prefix}{field.default}" for field in names]
    with (
        contextlib.closing(Peer(topics, peer.participant)) as own,
        node_process(pristine_bundle, tmp_path, *remaps, "--autostart") as process,
        own.pumping(),
    ):
        own.wait_for(lambda: own.moves, "it does not move")
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 128 + number
        own.wait_for(lambda: own.statuses[-1]["state"] == "ended", "no end")
        assert own.velocities[0][1:] == own.velocities[-1][1:] == (0.0, 0.0)
