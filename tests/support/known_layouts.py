"""(layout, clip form) of every kind of checkpoint that the toolchain knows."""

LAYOUTS = (
    ("pure", "none"),
    ("hybrid-a", "transformers"),
    ("hybrid-a", "open_clip"),
    ("hybrid-b", "transformers"),
    ("hybrid-c", "transformers"),
    ("hybrid-c", "open_clip"),
)
