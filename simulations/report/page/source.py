"""Words of the page that depend on what it was made of: the results of a run, or the ledger of an app's server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from fed_unlearn.simulations.run.results import APP, RunResults


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a page was made of, in words.

    Attributes
    ----------
    kind : str
        What the page is a report of.
    made_from : Markup
        What it was made from.
    holder : str
        What somebody must hold to check that the page belongs to it.
    no_oracle : mapping of str to str
        What a section says where there is no oracle, by the section's id.
    missing : mapping of str to str
        What a section says where nothing was recorded for it, by the section's id.
    """

    kind: str
    made_from: Markup
    holder: str
    no_oracle: Mapping[str, str]
    missing: Mapping[str, str]


_RUN = Source(
    kind="Report of an unlearning run",
    made_from=Markup("<code>results.json</code>"),
    holder="the run folder",
    no_oracle={
        "requests": "No oracle was trained: run with --oracle to see what retraining without the data gives.",
        "audits": "No oracle was trained that figures without a bound could stand beside: run with --oracle.",
        "cost": "No oracle was trained: run with --oracle to compare with retraining.",
    },
    missing={
        "timeline": "No model of this run has been evaluated yet.",
        "destinations": "What the models call the test samples of forgotten classes was not recorded: a run records it"
        " of requests for whole classes, while it serves them.",
        "features": "No features were recorded: a run records them of requests for whole classes, while it serves"
        " them.",
        "membership": "No ROC curve was recorded: a run records one where the membership attack has samples on both"
        " sides.",
        "clients": "No client has trained in this run: its model was trained before, or the run has only begun.",
        "settings": "The folder holds no scenario.toml that could be read.",
    },
)
_NO_ORACLE = "There is no oracle to compare with: the server of an app trains none."
_APP = Source(
    kind="Report of a federation's forgetting",
    made_from=Markup("the ledger of an app's server"),
    holder="the ledger",
    no_oracle={
        "requests": _NO_ORACLE,
        "audits": "There is no oracle that figures without a bound could stand beside: the server of an app trains"
        " none.",
        "cost": _NO_ORACLE,
    },
    missing={
        "timeline": "The ledger has no accuracy of a round: it has one where the app's evaluation reports accuracy.",
        "destinations": "A ledger does not say what the models call the test samples of forgotten classes.",
        "features": "A ledger has no features.",
        "membership": "The ledger has no ROC curve of the membership attack.",
        "clients": "The ledger names no client that has trained: the model was trained before, or training goes on.",
        "settings": "An app keeps its settings itself: the ledger has none.",
    },
)


def source_of(results: RunResults) -> Source:
    """What the page of these results is made of, in words."""
    return _APP if results.engine == APP else _RUN
