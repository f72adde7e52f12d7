"""What ``fed-unlearn bench sequence`` is asked to measure. The command line reads its options from these fields.

Importing this module is cheap, since ``--help`` needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from fed_unlearn.simulations.seeds import parsed_names, parsed_seeds


@dataclass(frozen=True, kw_only=True)
class SequenceSettings:
    """The scenario, its seeds, how many oracles stand beside it after each event, and which other methods."""

    scenario: Annotated[str, Argument(help="A scenario that begins with training.")] = "digits-long"
    out: Annotated[
        Path, Option(metavar="DIR", help="Folder for sequence.json: new, empty, or of the same comparison, to go on.")
    ]
    overrides: Annotated[
        tuple[str, ...], Option("--set", metavar="KEY=VALUE", help="Change the scenario; may be repeated.")
    ] = ()
    seeds: Annotated[
        tuple[int, ...], Option(parser=parsed_seeds, metavar="SEEDS", help="One run each, such as 100-104.")
    ] = (0,)
    oracles: Annotated[int, Option(min=2, help="Trained after each event, from scratch and by seeds of their own.")] = 3
    beside: Annotated[
        tuple[str, ...],
        Option(
            parser=parsed_names,
            metavar="A,B",
            help="Methods of class requests that serve the same sequence without repair and without a gate; client"
            " requests are served by fedosd then.",
        ),
    ] = ()
