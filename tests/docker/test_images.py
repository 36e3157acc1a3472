"""The images and the compose file: hadolint's rules, and what a robot needs of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
IMAGES = sorted((ROOT / "docker").glob("Dockerfile.*"))
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")


def steps_of(image: Path) -> list[tuple[str, str]]:
    with image.open("rb") as file:
        return [
            (step["instruction"], str(step["value"])) for step in DockerfileParser(fileobj=file).structure
        ]


def last_stage(image: Path) -> list[tuple[str, str]]:
    steps = steps_of(image)
    return steps[max(at for at, (name, _) in enumerate(steps) if name == "FROM") :]


def services() -> dict[str, dict[str, object]]:
    return yaml.safe_load((ROOT / "docker/compose.yaml").read_text(encoding="utf-8"))["services"]


@pytest.mark.skipif(HADOLINT is None, reason="hadolint has no wheel for this platform")
@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_hadolint_finds_nothing(image: Path) -> None:
    done = subprocess.run(
        [str(HADOLINT), "--no-color", "--config", ROOT / ".hadolint.yaml", image],
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
class TestImage:
    def test_stands_on_a_base_of_a_full_version(self, image: Path) -> None:
        bases = [value.partition(" AS ")[0] for name, value in steps_of(image) if name == "FROM"]
        stages = {value.partition(" AS ")[2] for name, value in steps_of(image) if name == "FROM"}
        assert [base for base in bases if base not in stages and not re.search(r":r?\d+\.\d", base)] == []

    def test_runs_as_nobody_in_particular(self, image: Path) -> None:
        steps = dict(last_stage(image))
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", steps["USER"])
        assert "HOME=/tmp" in steps["ENV"]

    def test_keeps_no_installer_no_wheels_and_no_sources(self, image: Path) -> None:
        steps = last_stage(image)
        copied = [value.split()[0] for name, value in steps if name in ("COPY", "ADD")]
        assert [name for name, _ in steps if name == "RUN"] == []
        assert copied == ["--from=install"]

    def test_cleans_up_after_apt_in_the_same_layer(self, image: Path) -> None:
        uses = [value for name, value in steps_of(image) if name == "RUN" and "apt-get install" in value]
        assert uses
        assert all("--no-install-recommends" in use and "rm -rf /var/lib/apt/lists/*" in use for use in uses)

    def test_copies_what_is_there_and_not_ignored(self, image: Path) -> None:
        ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
        for name, value in steps_of(image):
            if name == "COPY" and not value.startswith("--from"):
                for source in value.split()[:-1]:
                    assert (ROOT / source).exists()
                    assert not any(fnmatch(source, pattern) for pattern in ignored)

    def test_says_how_its_health_is_asked(self, image: Path) -> None:
        assert any(name == "HEALTHCHECK" for name, _ in last_stage(image))


def test_the_robot_gets_every_package_it_needs_in_one_version_with_its_hashes() -> None:
    text = (ROOT / "docker/robot-requirements.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w.-]+)==(\S+) \\$", text, re.MULTILINE))
    needed = {re.split(r"[^\w-]", line)[0] for line in requires("vla-edge") or () if "extra ==" not in line}
    assert needed | {"cuda-bindings"} <= set(pins)
    assert {"torch", "onnx", "onnxruntime", "tensorrt"}.isdisjoint(pins)
    assert pins["cuda-bindings"].startswith("12.9.")
    assert all(f"{name}=={version} \\\n    --hash=sha256:" in text for name, version in pins.items())


@pytest.mark.parametrize("name", sorted(services()))
class TestService:
    def test_writes_only_as_the_user_and_only_where_he_says(self, name: str) -> None:
        service = services()[name]
        assert str(service["user"]).startswith("${VLA_USER:?")
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]

    def test_is_built_from_a_file_here(self, name: str) -> None:
        build = services()[name]["build"]
        assert isinstance(build, dict)
        assert ROOT / build["dockerfile"] in IMAGES


def test_the_policy_is_stopped_by_sigterm_with_time_to_stop_the_robot() -> None:
    policy = services()["policy"]
    assert policy["stop_signal"] == "SIGTERM"
    assert policy["stop_grace_period"] == "10s"
    assert policy["init"] is False  # no shell and no other process 1 between the signal and stop_on_exit
    assert policy["command"] == ["python", "drive.py", "engines/current"]
    assert str(policy["restart"]).startswith("on-failure:")  # never at boot, never for ever
    assert "../engines:/robot/engines:ro" in policy["volumes"]


@pytest.mark.parametrize("name", ["board", "policy"])
def test_a_board_s_service_has_its_gpu_and_its_files(name: str) -> None:
    service = services()[name]
    assert service["runtime"] == "nvidia"
    assert service["group_add"] == ["video", "${VLA_RENDER:-44}"]  # twice the same word is refused by Compose
