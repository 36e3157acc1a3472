"""Which process has started this one, looked up as early as may be: it can die while a policy loads."""

from __future__ import annotations

import os

# Commands import this at their start. In a forked child it is the parent's own parent: only for commands.
STARTED_BY = os.getppid()
