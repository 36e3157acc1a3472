"""How a command ends on Ctrl-C. A file of its own, since it is read before anything that takes time is imported."""

INTERRUPTED = 130  # 128 + SIGINT, what a shell reports for Ctrl-C
INTERRUPTED_WORD = b"interrupted\n"
