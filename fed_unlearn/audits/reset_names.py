"""Names of the figures that classes that stay have under a reset output row."""

from __future__ import annotations


def reset_name(figure: str) -> str:
    """Name of a figure's reference: the same figure of the classes that stay, each under a reset row."""
    return f"reset_rows_{figure}"
