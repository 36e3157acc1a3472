"""Carry out a Dockerfile's own steps where no image can be pulled, and try what they make as a stranger would.

Each stage is a folder, its steps run in it by chroot in a mount namespace: as root, on Linux. Debian's base is made by
debootstrap. NVIDIA's cannot be: there this machine's system stands below, read-only, with a Python of the image's
version, and the steps of apt are left out aloud. What stays unproven: the base images, apt on Ubuntu, an ARM processor.

    python docker/rehearse.py docker/Dockerfile.export --arg TORCH_BACKEND=
    python docker/rehearse.py docker/Dockerfile.robot
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from stages import JETPACK_PYTHON, STRANGER, Rehearsal, jetpack_python
from trials import give, try_export, try_robot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("--python", help=f"a Python {JETPACK_PYTHON}, where the base cannot be made [found]")
    parser.add_argument("--arg", action="append", default=[], metavar="NAME=VALUE", help="as --build-arg")
    given = parser.parse_args()
    if sys.platform != "linux" or os.geteuid() != 0:
        sys.exit("not rehearsed: chroot and mounts need root on Linux")
    arguments = dict(argument.split("=", 1) for argument in given.arg)
    with tempfile.TemporaryDirectory(prefix="vla-edge-image-") as folder:
        work = Path(folder)
        work.chmod(0o755)
        rehearsal = Rehearsal(given.dockerfile, work, given.python or jetpack_python(), arguments)
        stage = rehearsal.build()
        mounted = work / "mounted"
        mounted.mkdir()
        give(mounted)
        print("\n== tried by user 12345 on a read-only root, one folder mounted", flush=True)
        robot = any(name == "HEALTHCHECK" and value != "NONE" for name, value in rehearsal.steps)
        (try_robot if robot else try_export)(rehearsal, stage, mounted)
        strange = [path for path in mounted.rglob("*") if path.lstat().st_uid != STRANGER]
        if strange:
            sys.exit(f"not the user's: {strange[:3]}")
        print("\nlayers of the last stage, without a base that is not here")
        for text, size in rehearsal.layers:
            print(f"{size / 1e6:9.1f} MB  {text}")


if __name__ == "__main__":
    main()
