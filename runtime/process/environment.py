"""What libraries look up about the user, where the system does not know him."""

from __future__ import annotations

import os
from collections.abc import MutableMapping


def stand_in_for_missing_user(environment: MutableMapping[str, str] = os.environ) -> None:
    """Name the user and his folder where no passwd entry does, as in a container with `--user 1234`.

    Libraries ask for both while they are imported, and fail where there is no answer. The folder is "/", as
    Docker's own stand-in is: a user without a home cannot write there, so that nothing is read from it either.

    Args:
        environment: variables that are there already stay.
    """
    import pwd

    try:
        entry = pwd.getpwuid(os.getuid())
        name, home = entry.pw_name, entry.pw_dir
    except KeyError:
        name, home = f"uid{os.getuid()}", "/"
    if not any(environment.get(variable) for variable in ("LOGNAME", "USER", "LNAME", "USERNAME")):
        environment["USER"] = name
    if not environment.get("HOME"):
        environment["HOME"] = home
