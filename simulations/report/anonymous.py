"""Results without the names of clients: each client gets a letter, and free text that names it gets it too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from fed_unlearn.simulations.run.pseudonyms import NODE, Pseudonyms, client_names, is_anonymous
from fed_unlearn.simulations.run.results import RequestResult, RunResults
from fed_unlearn.simulations.run.training_results import TrainingResult
from fed_unlearn.strategies.clients.messages.exchange import client_order
from fed_unlearn.strategies.serving.relapse import TOMBSTONES

__all__ = ["Pseudonyms", "anonymised", "client_names", "shown"]

_OF_CLIENT = f"{TOMBSTONES}:"


def anonymised(results: RunResults, names: Iterable[str] = ()) -> RunResults:
    """Results in which every client has a letter in place of its name, and no request names samples by their ids.

    Labels of classes and ids of requests stay as they are.

    Parameters
    ----------
    results : RunResults
    names : iterable of str, optional
        Names of all clients of the run, in the order of their letters, as :func:`client_names` finds them in a run
        folder. Clients that only the results name follow.

    Returns
    -------
    RunResults
        A copy; the results that were given are not changed.
    """
    pseudonyms = Pseudonyms([*names, *sorted(_named_in(results), key=client_order)])
    return replace(
        results,
        training=_training(results.training, pseudonyms),
        requests=tuple(_request(request, pseudonyms) for request in results.requests),
        relapse=tuple(replace(row, after=_event(row.after, pseudonyms)) for row in results.relapse),
        relapse_due=tuple(_event(after, pseudonyms) for after in results.relapse_due),
        devices=tuple(replace(item, client=pseudonyms.of(item.client)) for item in results.devices),
    )


def shown(results: RunResults, folder: Path) -> RunResults:
    """The results of a run as its operator is shown them: without names where the run was begun with ``--anonymous``.

    Parameters
    ----------
    results : RunResults
    folder : Path
        The run folder.
    """
    return anonymised(results, client_names(folder)) if is_anonymous(folder) else results


def _named_in(results: RunResults) -> set[str]:
    training = results.training
    names = {*training.trained_clients, *training.never_trained, *(item.client for item in results.devices)}
    names.update(name for item in training.clients for name in item.failed)
    names.update(str(request.target["client"]) for request in results.requests if "client" in request.target)
    names.update(name for request in results.requests for name in (*request.owed, *request.left_out))
    events = (*(row.after for row in results.relapse), *results.relapse_due)
    names.update(event.removeprefix(_OF_CLIENT) for event in events if event.startswith(_OF_CLIENT))
    return {name for name in names if not NODE.fullmatch(name)}


def _event(event: str, pseudonyms: Pseudonyms) -> str:
    return _OF_CLIENT + pseudonyms.of(event.removeprefix(_OF_CLIENT)) if event.startswith(_OF_CLIENT) else event


def _training(training: TrainingResult, pseudonyms: Pseudonyms) -> TrainingResult:
    return replace(
        training,
        clients=tuple(replace(item, failed=_reasons(item.failed, pseudonyms)) for item in training.clients),
        trained_clients=tuple(sorted(pseudonyms.of(name) for name in training.trained_clients)),
        never_trained=_reasons(training.never_trained, pseudonyms),
    )


def _reasons(reasons: Mapping[str, str], pseudonyms: Pseudonyms) -> dict[str, str]:
    return {pseudonyms.of(name): pseudonyms.scrubbed(why) for name, why in reasons.items()}


def _request(request: RequestResult, pseudonyms: Pseudonyms) -> RequestResult:
    reason = None if request.reason is None else pseudonyms.scrubbed(request.reason)
    return replace(
        request,
        reason=reason,
        target=dict(_target(request.target, pseudonyms)),
        owed=tuple(sorted(map(pseudonyms.of, request.owed))),
        left_out=tuple(sorted(map(pseudonyms.of, request.left_out))),
    )


def _target(target: Mapping[str, object], pseudonyms: Pseudonyms) -> Iterator[tuple[str, object]]:
    for name, value in target.items():
        if name == "client":
            yield name, pseudonyms.of(str(value))
        elif name == "sample_ids":
            yield "samples", len(value) if isinstance(value, list | tuple) else value
        else:
            yield name, value
