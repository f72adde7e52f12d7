"""The types of ``results.json`` in a run folder. All figures and tables are made from it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fed_unlearn.audits.base import Figures
from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.gate import GateCheck
from fed_unlearn.simulations.run.damaged_files import fault_in_words, finite_json
from fed_unlearn.simulations.run.ledger_facts import LedgerFacts
from fed_unlearn.simulations.run.training_results import TrainingResult
from fed_unlearn.simulations.run.views.view_results import RequestViews

FILE_NAME = "results.json"

_FIGURES = ("before", "unlearned", "as_trained", "after", "oracle")
APP = "app"
"""The engine in results that were read from the ledger of an app's server."""

IMAGES = "image"
"""The kind of input of all data that a scenario can name."""

_LEFT_OUT = ("submitted", "ended", "model_before", "model_after", "checks", "owed", "left_out", "views")


class ResultsError(FedUnlearnError, ValueError):
    """Raised if the results of a run folder are missing or unreadable."""


@dataclass(frozen=True, kw_only=True)
class RequestResult:
    """One forget request: what was asked, what was done, how well it worked and what it cost.

    Fields from ``submitted`` on are left out of JSON where they say nothing.

    Attributes
    ----------
    id, scope, target, method
        Fields of the request. ``target`` is ``{"classes": [...]}``, ``{"client": ..., "samples": n}``,
        ``{"client": ..., "sample_ids": [...]}`` or, of an owner, ``{"client": ..., "queued": ..., "count": n}``.
    status : str
        ``committed``, ``failed`` or ``rejected``. Any other status means that the request has not ended.
    attempts : int
    reason : str or None
        Why it was not committed.
    before, unlearned, as_trained, after, oracle : Figures or None
        Figures before the request, after its first unlearn round, before rows were set, at its end, and of the oracle.
    seconds, oracle_seconds : float
        Wall time. Requests that share an oracle share its seconds.
    passes, oracle_passes : int
        Sample passes. A backward pass counts as two.
    passes_by_part : mapping of str to int
        What ``passes`` were for: ``unlearn``, ``repair``, ``audit``, ``train``; ``other`` of earlier versions.
    messages, bytes_sent, bytes_received : int
        What the server exchanged with clients.
    witnesses : int or None
        Number of clients on whose figures of the forget set the verdict rests; None where it was never judged.
    evidence : str or None
        How the forgetting of a committed request is known: ``measured``, ``by construction`` or ``not measurable``.
    goal : str or None
        What a sample request wants of its samples: ``misclassify`` or ``indistinguishable``.
    labels : sequence of str
        What the data calls the classes that ``target`` names by index, in their order.
    submitted, ended : float or None
        When the ledger received it, and when it ended last, in seconds since the epoch; None where it has not ended.
    model_before, model_after : str or None
        Digests, in hexadecimal, of the model that served when its first attempt began, and of the one that served when
        it had ended. Of a request that failed both are the same; ``after`` then shows the last candidate, which never
        served. None where it was not tried, or has not ended.
    checks : sequence of GateCheck
        What the gate looked at in the last candidate: each figure with its bounds, and whether it passed.
    owed : sequence of str
        Clients that must still write its tombstones, and take part in nothing until they have.
    left_out : sequence of str
        Clients whose figures were left out when it was judged: it was held for them, and approved since.
    views : RequestViews or None
        What the report shows of its models beside their figures; None where nothing was looked at.
    """

    id: str
    scope: str
    target: Mapping[str, object]
    method: str
    status: str
    attempts: int = 0
    reason: str | None = None
    before: Figures | None = None
    unlearned: Figures | None = None
    as_trained: Figures | None = None
    after: Figures | None = None
    oracle: Figures | None = None
    seconds: float = 0.0
    oracle_seconds: float | None = None
    passes: int = 0
    oracle_passes: int | None = None
    passes_by_part: Mapping[str, int] = field(default_factory=dict)
    messages: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    witnesses: int | None = None
    evidence: str | None = None
    goal: str | None = None
    labels: Sequence[str] = ()
    submitted: float | None = None
    ended: float | None = None
    model_before: str | None = None
    model_after: str | None = None
    checks: Sequence[GateCheck] = ()
    owed: Sequence[str] = ()
    left_out: Sequence[str] = ()
    views: RequestViews | None = None

    @property
    def speedup(self) -> float | None:
        """Seconds of the oracle divided by those of the request, or None without an oracle."""
        return self.oracle_seconds / self.seconds if self.oracle_seconds is not None and self.seconds > 0 else None

    @property
    def pass_ratio(self) -> float | None:
        """Sample passes of the oracle divided by those of the request, or None without an oracle."""
        return self.oracle_passes / self.passes if self.oracle_passes is not None and self.passes > 0 else None


@dataclass(frozen=True, kw_only=True)
class RelapseResult:
    """The accuracy on forgotten data after a later event.

    Attributes
    ----------
    after : str
        The event: a request id, or a training step such as ``train:2``.
    forget_accuracy : mapping of str to float
        Accuracy on the forget set by request id. Requests whose forget set is no longer held are not in it.
    test_forget_accuracy : mapping of str to float
        Accuracy on test samples of the forgotten classes by request id. Sample requests are not in it.
    relapsed : sequence of str
        Ids of the requests that the gate would not accept any more.
    """

    after: str
    forget_accuracy: Mapping[str, float]
    test_forget_accuracy: Mapping[str, float]
    relapsed: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class HistoryPoint:
    """The accuracy of the model at one moment of the run.

    Attributes
    ----------
    event : str
        ``train:1`` for a round of the first training step, or the id of a request.
    round : int
        Rounds of the whole run so far, with unlearn and repair rounds.
    test_accuracy : float
        Accuracy on test samples of all classes that were not forgotten by then.
    test_forget_accuracy : float or None
        Accuracy on test samples of the classes that the request forgets. None for a round of training.
    """

    event: str
    round: int
    test_accuracy: float
    test_forget_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class DeviceCount:
    """The number of messages of one kind that a client answered on one device."""

    client: str
    message: str
    device: str
    cuda_visible_devices: str
    count: int


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """Everything that a run has measured.

    Attributes
    ----------
    relapse_due : sequence of str
        Events after which no client has yet been able to audit the committed requests.
    complete : bool
        Whether the last entry of the timeline is done.
    ledger : LedgerFacts or None
        Where the ledger stood. Left out of JSON where None.
    served_model : str or None
        Digest of the model that serves, in hexadecimal. Left out of JSON where None.
    input : str or None
        What the model reads: ``image``; None where nobody said so, as in the ledger of an app. Left out of JSON where
        None.
    """

    scenario: str
    seed: int
    engine: str
    training: TrainingResult = field(default_factory=TrainingResult)
    requests: Sequence[RequestResult] = ()
    relapse: Sequence[RelapseResult] = ()
    relapse_due: Sequence[str] = ()
    history: Sequence[HistoryPoint] = ()
    devices: Sequence[DeviceCount] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    complete: bool = False
    ledger: LedgerFacts | None = None
    served_model: str | None = None
    input: str | None = None

    @property
    def all_committed(self) -> bool:
        """Whether the run is complete and no request failed or was rejected."""
        return self.complete and all(request.status == "committed" for request in self.requests)

    @property
    def succeeded(self) -> bool:
        """Whether all requests were committed and every client that was to train did so at least once."""
        return self.all_committed and not self.training.never_trained

    def to_json(self) -> dict[str, Any]:
        """What :meth:`save` writes, as JSON objects, lists and values."""
        body = dataclasses.asdict(self)
        for request, written in zip(self.requests, body["requests"], strict=True):
            for key in _FIGURES:
                figures = getattr(request, key)
                written[key] = figures.to_json() if figures is not None else None
            written["speedup"] = request.speedup
            written["pass_ratio"] = request.pass_ratio
            _leave_out(written, _LEFT_OUT)
        _leave_out(body, ("ledger", "served_model", "input"))
        return body

    def save(self, folder: Path) -> None:
        """Write ``results.json`` into a run folder in one step. A reader sees the old file or the new one."""
        text = json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n"
        write_atomically(folder / FILE_NAME, text.encode())

    @classmethod
    def load(cls, folder: Path) -> RunResults:
        """Read ``results.json`` of a run folder.

        Raises
        ------
        ResultsError
            If the file is missing, cut or edited, or another version wrote it; it says which field is wrong.
        """
        path = folder / FILE_NAME
        try:
            body = finite_json(path.read_bytes())
            return cls(
                scenario=body["scenario"],
                seed=body["seed"],
                engine=body["engine"],
                training=TrainingResult.from_json(body["training"]),
                requests=tuple(_request(entry) for entry in body["requests"]),
                relapse=tuple(
                    RelapseResult(**{**entry, "relapsed": tuple(entry["relapsed"])}) for entry in body["relapse"]
                ),
                relapse_due=tuple(body.get("relapse_due", ())),
                history=tuple(HistoryPoint(**entry) for entry in body["history"]),
                devices=tuple(DeviceCount(**entry) for entry in body["devices"]),
                versions=body["versions"],
                complete=body["complete"],
                ledger=LedgerFacts(**body["ledger"]) if body.get("ledger") else None,
                served_model=body.get("served_model"),
                input=body.get("input"),
            )
        except FileNotFoundError:
            what = f"holds no {FILE_NAME}" if folder.exists() else "does not exist"
            raise ResultsError(f"{folder}: {what}; the folder of a run was expected") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ResultsError(f"{path}: {fault_in_words(error)}; restore the file") from None


def _request(entry: Mapping[str, Any]) -> RequestResult:
    values = {key: value for key, value in entry.items() if key not in ("speedup", "pass_ratio")}
    for key in _FIGURES:
        figures = values.get(key)
        values[key] = Figures(**figures) if isinstance(figures, dict) else None
    values |= {key: tuple(values.get(key, ())) for key in ("labels", "owed", "left_out")}
    values["checks"] = tuple(GateCheck.from_json(check) for check in values.get("checks", ()))
    values["views"] = RequestViews.from_json(values["views"]) if values.get("views") else None
    return RequestResult(**values)


def _leave_out(written: dict[str, Any], keys: Sequence[str]) -> None:
    """Take those keys out of JSON that say nothing."""
    for key in keys:
        if written[key] is None or written[key] == ():
            del written[key]
