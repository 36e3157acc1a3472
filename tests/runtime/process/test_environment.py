"""Commands work for a user that the system does not know, as in a container with `--user 12345`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from vla_edge.runtime.process.environment import stand_in_for_missing_user

UNKNOWN = 54321


@pytest.mark.parametrize(
    ("given", "stands"),
    [
        ({}, {"USER": f"uid{UNKNOWN}", "HOME": "/"}),
        ({"HOME": "/data"}, {"USER": f"uid{UNKNOWN}", "HOME": "/data"}),
        ({"LOGNAME": "robot", "HOME": ""}, {"LOGNAME": "robot", "HOME": "/"}),
    ],
)
def test_what_is_missing_is_stood_in_for_and_the_rest_stays(
    given: dict[str, str], stands: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: UNKNOWN)
    environment = dict(given)
    stand_in_for_missing_user(environment)
    assert environment == stands


def test_the_system_s_own_answer_is_taken_where_there_is_one() -> None:
    import pwd

    environment: dict[str, str] = {}
    stand_in_for_missing_user(environment)
    entry = pwd.getpwuid(os.getuid())
    assert environment == {"USER": entry.pw_name, "HOME": entry.pw_dir}


def test_libraries_that_ask_for_the_user_get_an_answer(tmp_path: Path) -> None:
    """Torch's compiler, matplotlib and the hub look both up while they are imported."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become an unknown user, by setpriv")
    script = (
        "import getpass, os, pathlib\n"
        "from vla_edge.runtime.process.environment import stand_in_for_missing_user\n"
        "stand_in_for_missing_user()\n"
        "print(os.getuid(), getpass.getuser(), pathlib.Path.home())"
    )
    source = Path(__file__).parents[3] / "runtime"
    package = tmp_path / "vla_edge" / "runtime"
    for name in ("__init__", "version", "process/__init__", "process/environment"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / f"{name}.py", package / f"{name}.py")
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    done = subprocess.run(
        ["setpriv", f"--reuid={UNKNOWN}", "--clear-groups", "/usr/bin/env", "-i", "python3", "-I", "-c",
         f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{script}"],
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    if "python3" in done.stderr and "No such file" in done.stderr:
        pytest.skip("no python3 that every user may run")
    assert done.stdout == f"{UNKNOWN} uid{UNKNOWN} /\n", done.stderr
