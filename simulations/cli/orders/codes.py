"""Exit codes of the command line."""

from __future__ import annotations

COMMITTED, NOT_COMMITTED, BAD_INPUT, INTERNAL_ERROR, INTERRUPTED, OUTPUT_CLOSED = 0, 1, 2, 70, 130, 141
"""All requests committed; some failed or were rejected, or a run failed; bad input, or a file or folder that cannot be
used; an error of the program's own; Ctrl-C; standard output was closed, as ``| head`` does."""
