"""The stages of a Dockerfile as folders, its steps carried out in them by chroot in a mount namespace."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile_parse import DockerfileParser

UV = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or "uv"
HERE = Path(__file__).resolve().parents[1]
JETPACK_PYTHON = "3.10"
STRANGER = 12345  # a user and group that no image knows, as `--user` may give
DEBIAN = re.compile(r"debian:(\d+)[.\d]*-slim")
SUITES = {"12": "bookworm", "13": "trixie"}
SYSTEM = ("bin", "etc", "lib", "lib64", "sbin", "usr")  # of this machine, below a base that cannot be made
NETWORK = "tmp/network"  # in a stage: uv's cache and the certificates of this machine
CERTIFICATES = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
OF_THE_NETWORK = re.compile(r"(PIP|UV)_|(https?|no)_proxy$", re.IGNORECASE)
NOT_HERE = ("apt-get",)  # steps that start so need the base's own packages


@dataclass
class Stage:
    """A stage's tree and what its steps have set."""

    root: Path
    on_this_system: bool
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"})
    workdir: str = "/"
    shell: tuple[str, ...] = ("/bin/sh", "-c")


class Rehearsal:
    """The stages of one Dockerfile, carried out below `work`."""

    def __init__(self, dockerfile: Path, work: Path, python: str, arguments: Mapping[str, str]) -> None:
        self.work = work
        self.python = python
        self.arguments = arguments
        self.stages: dict[str, Stage] = {}
        self.layers: list[tuple[str, int]] = []
        with dockerfile.open("rb") as file:
            self.steps = [
                (step["instruction"], str(step["value"])) for step in DockerfileParser(fileobj=file).structure
            ]

    def build(self) -> Stage:
        """The last stage, after every step."""
        stage = Stage(self.work, on_this_system=True)
        for instruction, value in self.steps:
            if instruction == "FROM":
                base, _, name = value.partition(" AS ")
                stage = self._start(base, name or "last")
                self.stages[name or "last"] = stage
                self.layers = [(f"FROM {base}", size_of(stage.root))]
                continue
            self._step(stage, instruction, value)
        return stage

    def _start(self, base: str, name: str) -> Stage:
        root = self.work / name
        print(f"\n== {name}, from {base}", flush=True)
        if base in self.stages:
            before = self.stages[base]
            subprocess.run(["cp", "-a", before.root, root], check=True)
            return Stage(root, before.on_this_system, dict(before.environment), shell=before.shell)
        debian = DEBIAN.fullmatch(base)
        if debian and shutil.which("debootstrap"):
            debootstrap(SUITES[debian[1]], root)
            return Stage(root, on_this_system=False)
        if not self.python:
            sys.exit(
                f"{base} cannot be had here, and no Python {JETPACK_PYTHON}: pyenv install {JETPACK_PYTHON}"
            )
        print(f"   {base} cannot be had here: this machine's system stands below, with {self.python}")
        for folder in (*SYSTEM, "dev", "proc", "tmp", "opt"):
            (root / folder).mkdir(parents=True)
        (root / "tmp").chmod(0o1777)
        return Stage(root, on_this_system=True)

    def _step(self, stage: Stage, instruction: str, value: str) -> None:
        before = size_of(stage.root) if instruction in ("RUN", "COPY") else 0
        started = time.monotonic()
        if instruction == "RUN":
            if stage.on_this_system and value.startswith(NOT_HERE):
                print(f"   LEFT OUT, needs the base's packages: RUN {value[:90]}...")
                return
            print(f"   RUN {value[:100]}", flush=True)
            self.inside(stage, [*stage.shell, value])
        elif instruction == "COPY":
            self._copy(stage, shlex.split(value))
        elif instruction == "ENV":
            for name, given in re.findall(r'(\w+)=("[^"]*"|\S+)', value):
                stage.environment[name] = expanded(given.strip('"'), stage.environment)
        elif instruction == "ARG":
            name, _, default = value.partition("=")
            stage.environment[name] = self.arguments.get(name, default)
        elif instruction == "WORKDIR":
            stage.workdir = value
            (stage.root / value.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif instruction == "SHELL":
            stage.shell = tuple(json.loads(value))
        if instruction in ("RUN", "COPY"):
            self.layers.append((f"{instruction} {value[:60]}", size_of(stage.root) - before))
            print(f"   {self.layers[-1][1] / 1e6:9.1f} MB {time.monotonic() - started:6.1f} s", flush=True)

    def _copy(self, stage: Stage, words: list[str]) -> None:
        source_root = HERE
        if words[0].startswith("--from="):
            source_root = self.stages[words.pop(0).partition("=")[2]].root
        *sources, target = words
        for source in sources:
            found = source_root / source.lstrip("/")
            into = stage.root / os.path.join(stage.workdir, target).lstrip("/")
            if found.is_dir():
                shutil.copytree(found, into, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(found, into / found.name if target.endswith("/") else into)

    def inside(
        self,
        stage: Stage,
        command: Iterable[str],
        *,
        mounted: Path | None = None,
        expect: int = 0,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        """Run a command in a stage, and leave where its exit code is not the expected one."""
        done = subprocess.run(self.line(stage, command, mounted=mounted, extra=extra), check=False)
        if done.returncode != expect:
            sys.exit(f"exit code {done.returncode} from: {shlex.join(command)}")

    def line(
        self,
        stage: Stage,
        command: Iterable[str],
        *,
        mounted: Path | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> list[str]:
        """A command in a stage: as root while it is built; with `mounted`, as a stranger on a read-only root.

        It is process 1 of a process namespace, as a container's command is.
        """
        environment = {name: value for name, value in os.environ.items() if OF_THE_NETWORK.match(name)}
        environment |= {"UV_CACHE_DIR": f"/{NETWORK}/uv", "UV_LINK_MODE": "copy", "UV_NO_PROGRESS": "1"}
        environment |= dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE"), f"/{NETWORK}/certificates")
        environment |= stage.environment | dict(extra or {})
        user = [] if mounted is None else [f"--userspec={STRANGER}:{STRANGER}"]
        assigned = [f"{name}={value}" for name, value in environment.items()]
        chroot = ["chroot", *user, str(stage.root), "/usr/bin/env", "-i", *assigned]
        within = ["/bin/sh", "-c", f"cd {shlex.quote(stage.workdir)} && exec {shlex.join(command)}"]
        script = "\n".join(
            ["set -e", *self._mounts(stage, mounted), f"exec {shlex.join([*chroot, *within])}"]
        )
        return ["unshare", "--mount", "--pid", "--fork", "/bin/sh", "-c", script]

    def _mounts(self, stage: Stage, mounted: Path | None) -> Iterator[str]:
        root = shlex.quote(str(stage.root))
        if mounted is not None:
            yield f"mount --bind {root} {root}; mount -t tmpfs tmpfs {root}/tmp"  # noqa: S108
            yield f"mount --bind {shlex.quote(str(mounted))} {root}{stage.workdir}"
        for folder in ("dev", "proc"):
            yield f"mount --rbind /{folder} {root}/{folder}"
        if mounted is None:
            yield f"mkdir -p {root}/{NETWORK}/uv; touch {root}/{NETWORK}/certificates"
            yield f"mount --bind {shlex.quote(uv_cache())} {root}/{NETWORK}/uv"
            yield f"mount --bind {CERTIFICATES} {root}/{NETWORK}/certificates"
        if stage.on_this_system:
            for folder in SYSTEM:
                yield f"mount --rbind /{folder} {root}/{folder}; mount -o remount,ro,bind {root}/{folder}"
            home = Path(self.python).resolve().parents[1]
            yield f"mount --bind {shlex.quote(str(self._launcher()))} {root}/usr/bin/python3"
            if not home.is_relative_to("/usr"):
                yield f"mkdir -p {root}{home}"
                yield f"mount --bind {shlex.quote(str(home))} {root}{home}"
        if mounted is not None:
            yield f"mount -o remount,ro,bind {root}"

    def _launcher(self) -> Path:
        path = self.work / "python3"
        path.write_text(f'#!/bin/sh\nexec {Path(self.python).resolve()} "$@"\n')
        path.chmod(0o755)
        return path


def debootstrap(suite: str, root: Path) -> None:
    """Debian's smallest system, with this machine's way to the network."""
    subprocess.run(["debootstrap", "--variant=minbase", suite, root], check=True, stdout=subprocess.DEVNULL)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")


def jetpack_python() -> str:
    """A Python of JetPack 6's version on this machine; empty where none is."""
    homes = sorted(Path.home().glob(f".pyenv/versions/{JETPACK_PYTHON}.*/bin/python{JETPACK_PYTHON}"))
    return shutil.which(f"python{JETPACK_PYTHON}", path="/usr/bin:/usr/local/bin") or str(
        homes[-1] if homes else ""
    )


def uv_cache() -> str:
    return subprocess.run([UV, "cache", "dir"], check=True, capture_output=True, text=True).stdout.strip()


def expanded(text: str, environment: Mapping[str, str]) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda found: environment.get(found[1], ""), text)


def size_of(root: Path) -> int:
    """Bytes on disk of a stage's own tree."""
    done = subprocess.run(["du", "-sxB1", root], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[0])
