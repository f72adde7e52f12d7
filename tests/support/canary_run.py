"""A run whose clients and samples have names that occur nowhere else, so that a search finds each place they reach."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context, Message

from fed_unlearn.ledger import Ledger
from fed_unlearn.requests import ClientScope, ForgetRequest, SampleScope
from fed_unlearn.simulations.client_app import app
from fed_unlearn.simulations.inprocess import InProcessGrid
from fed_unlearn.simulations.run.driver import prepare, serve, write_scenario
from fed_unlearn.simulations.run.results import RunResults
from fed_unlearn.simulations.scenario import load_scenario
from fed_unlearn.simulations.task import data_of_client, source_of
from fed_unlearn.strategies import Event

CLIENTS = tuple(str(uuid.uuid5(uuid.NAMESPACE_OID, f"client {number}")) for number in range(4))
LEAVING, NEVER_TRAINS = CLIENTS[2], CLIENTS[3]

_SCENARIO = """
name = "canaries"
[run]
threads = 1
[data]
dataset = "canary_digits:digits_with_uuids"
[clients]
count = 4
[model]
name = "small-cnn"
[training]
learning-rate = 0.05
[unlearning]
retention = 1
max-request-norm = 8
max-attempts = 1
max-repair-rounds = 1
[unlearning.parameters.boundary-shrink]
learning-rate = 0.005
epochs = 5
[gate.class]
max-forget-accuracy = 0.1
max-retain-drop = 0.3
max-total-retain-drop = 0.5
[gate.sample]
max-retain-drop = 0.3
max-total-retain-drop = 0.5
[gate.client]
max-retain-drop = 0.3
max-total-retain-drop = 0.5
[[timeline]]
train = { rounds = 4 }
[[timeline]]
forget = { class = 3 }
"""


@dataclass(frozen=True)
class CanaryRun:
    """A run that is over.

    Attributes
    ----------
    folder : Path
        The run folder.
    results : RunResults
    sample_ids : tuple of str
        Ids of the samples that requests named, and of all others of their client.
    said : str
        What the run told its observer, a line for each event.
    """

    folder: Path
    results: RunResults
    sample_ids: tuple[str, ...]
    said: str


def canary_run(folder: Path, *overrides: str, anonymous: bool = False) -> CanaryRun:
    """Train, and serve requests for a class, for samples by their ids and for a client; one client fails in each round.

    Parameters
    ----------
    folder : Path
        The run folder, which must not exist.
    *overrides : str
        Changes of the scenario.
    anonymous : bool
        Whether the run is one with ``--anonymous``.
    """
    file = folder.with_suffix(".toml")
    file.write_text(_SCENARIO)
    scenario = load_scenario(str(file), [*overrides, *(["reporting.anonymous=true"] if anonymous else [])])
    ids = tuple(data_of_client(scenario, source_of(scenario.data), 0).train.ids)
    write_scenario(scenario, folder)
    said: list[str] = []

    def observe(event: Event) -> None:
        said.append(event.text)
        if event.kind == "training-finished":
            with closing(Ledger(folder / "ledger.db", create=False)) as ledger:
                unseen = {"goal": "indistinguishable"}
                ledger.receive(ForgetRequest(SampleScope(CLIENTS[0], ids[:3]), "instance-wise", unseen, "samples"))
                ledger.receive(ForgetRequest(ClientScope(LEAVING), id="leaves"))

    grid = InProcessGrid(
        _failing(app),
        len(CLIENTS),
        run_config={"scenario": str(folder / "scenario.toml"), "out": str(folder)},
        node_configs=[{"client-id": name} for name in CLIENTS],
    )
    results = serve(prepare(scenario), grid, folder, engine="inprocess", observer=observe)
    return CanaryRun(folder, results, ids, "\n".join(said))


def _failing(answer: Callable[[Message, Context], Message]) -> Callable[[Message, Context], Message]:
    def answered(message: Message, context: Context) -> Message:
        if message.metadata.message_type == "train" and context.node_config.get("client-id") == NEVER_TRAINS:
            raise RuntimeError(f"client {NEVER_TRAINS} is out of order")
        return answer(message, context)

    return answered
