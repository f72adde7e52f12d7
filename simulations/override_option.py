"""Changes to a scenario, as commands take them. Importing this module is cheap, since ``--help`` needs it."""

from __future__ import annotations

from typing import Annotated

from typer import Option

Overrides = Annotated[
    tuple[str, ...], Option("--set", metavar="KEY=VALUE", help="Change the scenario; may be repeated.")
]
"""Changes, each as ``training.rounds=2``."""
