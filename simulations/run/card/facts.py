"""What a model card says, read from the ledger, and from the results and the scenario where a run has them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fed_unlearn.audits.figures import Figures
from fed_unlearn.class_names import ClassNames
from fed_unlearn.ledger import Ledger, LedgerEntry
from fed_unlearn.ledger.lifecycle import FINAL, Status
from fed_unlearn.requests import ClassScope, SampleScope
from fed_unlearn.scopes import classes_named
from fed_unlearn.simulations.run.card.data_names import data_name, hub_id
from fed_unlearn.simulations.run.folders import SCENARIO_FILE
from fed_unlearn.simulations.run.installed import installed_versions
from fed_unlearn.simulations.run.results import FILE_NAME, RequestResult, RunResults
from fed_unlearn.strategies.outcomes import RelapseRow, RequestOutcome
from fed_unlearn.strategies.serving.relapse import relapse_rows
from fed_unlearn.strategies.worn_off import worn_off_at


@dataclass(frozen=True, kw_only=True)
class CardRequest:
    """A request as a card shows it: without the client that it concerns, and without ids of samples.

    Attributes
    ----------
    id, scope : str
    classes : tuple of int
        The classes that it names, or the one that its samples are of.
    labels : tuple of str
        What the data calls them, in their order; empty where nobody has said it.
    samples : int
        Number of samples of a sample request, else 0.
    status : Status
    has_relapsed : bool
        Whether the forgetting has worn off since, as the newest audit of it says.
    asked : float
        When it was received, in seconds since the epoch.
    ended : float or None
        When it ended last; None where it has not ended.
    method, evidence, goal : str or None
    before, after, oracle : Figures or None
    last_accuracy : float or None
        Accuracy on what it forgot at the last look: on test samples for classes, else on its training samples.
    """

    id: str
    scope: str
    classes: tuple[int, ...]
    labels: tuple[str, ...]
    samples: int
    status: Status
    has_relapsed: bool
    asked: float
    ended: float | None
    method: str | None
    evidence: str | None
    goal: str | None
    before: Figures | None
    after: Figures | None
    oracle: Figures | None
    last_accuracy: float | None

    @property
    def is_forgotten(self) -> bool:
        """Whether it was committed, and has not been taken up again since."""
        return self.status is Status.COMMITTED


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """How the model was trained, as far as it is known.

    Attributes
    ----------
    rounds : int
        Rounds of training, without those of unlearning and repair.
    strategy, model, data : str or None
        Names as in the scenario, without paths.
    hub_data : str or None
        The data set's id on the Hugging Face Hub, if it is from there.
    clients : int or None
    seed : int or None
    """

    rounds: int
    strategy: str | None = None
    model: str | None = None
    data: str | None = None
    hub_data: str | None = None
    clients: int | None = None
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """All that a card says.

    Attributes
    ----------
    name : str
        Name of the scenario, or of the model's file.
    file : str
        Name of the model's file.
    digest : str
        SHA-256 of the file, in hexadecimal.
    ledger, head : str
        The ledger's identity, and the digest of its last event.
    events : int
        Number of the ledger's events.
    requests : tuple of CardRequest
        All requests that were not withdrawn, in the order of receipt.
    training : TrainingFacts
    test_accuracy : float or None
        Of the model in the file, on test samples of the classes that it has not forgotten.
    test_interval : (float, float) or None
        The 95 % interval of the test accuracy, if it has one.
    input : str or None
        What the model reads, such as ``image``; None where nobody said so.
    versions : mapping of str to str
        Versions of the libraries that made the model.
    """

    name: str
    file: str
    digest: str
    ledger: str
    head: str
    events: int
    requests: tuple[CardRequest, ...]
    training: TrainingFacts
    test_accuracy: float | None = None
    test_interval: tuple[float, float] | None = None
    input: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def forgotten(self) -> list[CardRequest]:
        """The requests that are committed."""
        return [request for request in self.requests if request.is_forgotten]

    @property
    def not_forgotten(self) -> list[CardRequest]:
        """The requests that failed, were rejected, or have not ended."""
        return [request for request in self.requests if not request.is_forgotten]


def card_facts(folder: Path, ledger: Ledger, digest: str, file: str, *, labels: bool = True) -> CardFacts:
    """Gather what a card says of the model that a folder serves.

    Parameters
    ----------
    folder : Path
        A folder with a ledger. Results and a scenario are read where they are there.
    ledger : Ledger
    digest : str
        Digest of the model.
    file : str
        Name of the file that the model is written to.
    labels : bool
        Whether classes are called as the data calls them; if not, by their index alone.
    """
    results = RunResults.load(folder) if (folder / FILE_NAME).is_file() else None
    scenario = _scenario(folder / SCENARIO_FILE)
    events, head = ledger.head()
    accuracy, interval = _test_accuracy(ledger, results)
    return CardFacts(
        name=results.scenario if results is not None else Path(file).stem,
        file=file,
        digest=digest,
        ledger=ledger.identity,
        head=head,
        events=events,
        requests=_requests(ledger, results, ledger.class_names() if labels else ClassNames()),
        training=_training(ledger, results, scenario),
        test_accuracy=accuracy,
        test_interval=interval,
        input=results.input if results is not None else None,
        versions=dict(results.versions) if results is not None else installed_versions(),
    )


def _requests(ledger: Ledger, results: RunResults | None, names: ClassNames) -> tuple[CardRequest, ...]:
    looks = relapse_rows(ledger)
    measured = {} if results is None else {item.id: item for item in results.requests}
    ended = {
        event.request_id: event.time for event in ledger.events() if event.request_id and event.name in FINAL
    }  # the last one of each
    entries = [entry for entry in ledger.entries() if entry.status is not Status.WITHDRAWN]
    return tuple(_request(entry, ended.get(entry.id), looks, measured.get(entry.id), names) for entry in entries)


def _request(
    entry: LedgerEntry,
    ended: float | None,
    looks: Sequence[RelapseRow],
    measured: RequestResult | None,
    names: ClassNames,
) -> CardRequest:
    scope, last = entry.request.scope, looks[-1] if looks else RelapseRow("", {}, {})
    outcome = None if entry.outcome is None else RequestOutcome.from_json(entry.request, entry.outcome)
    looked = last.test_forget_accuracy if isinstance(scope, ClassScope) else last.forget_accuracy
    classes = classes_named(scope)
    return CardRequest(
        id=entry.id,
        scope=scope.kind,
        classes=classes,
        labels=tuple(names.labels(classes)) if names.names else (),
        samples=len(scope.sample_ids) or scope.count if isinstance(scope, SampleScope) else 0,
        status=entry.status,
        has_relapsed=worn_off_at(looks, entry.id) is not None,
        asked=entry.received,
        ended=ended if entry.status in FINAL else None,
        method=outcome.method if outcome is not None else entry.method or entry.request.method,
        evidence=str(outcome.evidence) if outcome is not None and outcome.evidence is not None else None,
        goal=outcome.goal if outcome is not None else None,
        before=outcome.before if outcome is not None else None,
        after=outcome.after if outcome is not None else None,
        oracle=measured.oracle if measured is not None else None,
        last_accuracy=looked.get(entry.id),
    )


def _test_accuracy(ledger: Ledger, results: RunResults | None) -> tuple[float | None, tuple[float, float] | None]:
    """The test accuracy of the model that serves, if it was measured of that very model."""
    accepted = [event for event in ledger.events() if event.name == "model-accepted"]
    after = str(accepted[-1].facts.get("after")) if accepted else ""
    if after.startswith("train:"):
        points = [] if results is None else [point for point in results.history if point.event == after]
        return (points[-1].test_accuracy if points else None), None
    requests = {entry.id: entry for entry in ledger.entries() if entry.status is Status.COMMITTED}
    entry = requests.get(after.rpartition("+")[2])
    if entry is None or entry.outcome is None:
        return None, None
    figures = RequestOutcome.from_json(entry.request, entry.outcome).after
    if figures is None:
        return None, None
    return figures.test_retain_accuracy, figures.intervals.get("test_retain_accuracy")


def _scenario(file: Path) -> Mapping[str, Mapping[str, object]]:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: section for name, section in table.items() if isinstance(section, dict)}


def _training(
    ledger: Ledger, results: RunResults | None, scenario: Mapping[str, Mapping[str, object]]
) -> TrainingFacts:
    def named(section: str, key: str) -> str | None:
        value = scenario.get(section, {}).get(key)
        return value if isinstance(value, str) else None

    count, data = scenario.get("clients", {}).get("count"), named("data", "dataset")
    return TrainingFacts(
        rounds=results.training.rounds if results is not None else _rounds(ledger),
        strategy=named("training", "strategy"),
        model=named("model", "name"),
        data=None if data is None else data_name(data),
        hub_data=None if data is None else hub_id(data),
        clients=count if isinstance(count, int) else None,
        seed=None if results is None else results.seed,
    )


def _rounds(ledger: Ledger) -> int:
    experiences = ledger.state("experiences")
    counts = [item.get("rounds") for item in experiences] if isinstance(experiences, list) else []
    return sum(count for count in counts if isinstance(count, int))
