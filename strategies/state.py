"""What the server remembers beyond the model: written into the ledger, so that a crash loses no step that was done."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import ConfigRecord
from flwr.serverapp.strategy import Strategy

from fed_unlearn.arrays import Arrays
from fed_unlearn.audits.pooled import Audit
from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger import Ledger
from fed_unlearn.strategies.inner.privacy import PrivacyAccountant
from fed_unlearn.strategies.inner.state import restore_server_state, server_state
from fed_unlearn.strategies.server_methods import MethodState
from fed_unlearn.strategies.training.oracle import Experience

_SERVED, _INNER, _TRAINING, _EXPERIENCES = "served", "inner", "training", "experiences"
_ATTEMPT, _INITIAL, _PRIVACY = "attempt", "initial", "privacy"


@dataclass
class ServedModel:
    """The last accepted model, and what is known of it.

    Attributes
    ----------
    arrays : dict of ndarray
    audit : Audit or None
        Of all parts.
    first_audit : Audit or None
        Of the model before the first request.
    update_norm : float or None
        Median norm of a client's change in the last training round; None before any.
    train_config : ConfigRecord
        Of the last training round.
    repair_rounds : int
        Repair rounds so far, over all requests.
    """

    arrays: Arrays
    audit: Audit | None = None
    first_audit: Audit | None = None
    update_norm: float | None = None
    train_config: ConfigRecord = field(default_factory=ConfigRecord)
    repair_rounds: int = 0

    @property
    def arrived(self) -> int:
        """Training experiences whose samples are there already; 0 for all."""
        value = self.train_config.get("arrived", 0)
        return value if isinstance(value, int) else 0


@dataclass
class OpenTraining:
    """A training experience that is not at its end.

    Attributes
    ----------
    name : str
        For instance ``"train:2"``.
    first : int
        Rounds before it, over all experiences.
    rounds, done : int
    config : ConfigRecord
        As given, not as the inner strategy completed it.
    arrays : dict of ndarray or None
        The model of its rounds so far; None where the gate has seen all of them.
    """

    name: str
    first: int
    rounds: int
    done: int
    config: ConfigRecord
    arrays: Arrays | None = None


class DurableState:
    """Reads and writes it; what belongs together is written in one transaction.

    Parameters
    ----------
    ledger : Ledger
    checkpoints : CheckpointStore
    inner : Strategy
        Its server state is kept with the training that it belongs to.
    seconds_between : float
        The state of a server-side method is written at most so often.
    """

    def __init__(
        self, ledger: Ledger, checkpoints: CheckpointStore, inner: Strategy, *, seconds_between: float = 5.0
    ) -> None:
        self._seconds_between = seconds_between
        self._method_state_saved = float("-inf")
        self._ledger = ledger
        self._checkpoints = checkpoints
        self._inner = inner
        account = ledger.state(_PRIVACY)
        self.accountant = PrivacyAccountant.from_json(str(account)) if account is not None else PrivacyAccountant()
        """Counts releases with noise."""

    # ------------------------------------------------------------------ the served model

    def load_served(self) -> ServedModel | None:
        """The model that serves; None before the first."""
        digest = self._ledger.served_model()
        if digest is None:
            return None
        body = _mapping(self._ledger.state(_SERVED))
        served = ServedModel(self._checkpoints.load(digest))
        if body:
            served.audit, served.first_audit = _audit(body["audit"]), _audit(body["first_audit"])
            served.update_norm = body["update_norm"]  # type: ignore[assignment]
            served.train_config = config_from_json(body["train_config"])
            served.repair_rounds = int(str(body["repair_rounds"]))
        return served

    def save_served(self, served: ServedModel) -> None:
        """What is known of the served model; the model itself is the ledger's."""
        body = {
            "audit": served.audit.to_json() if served.audit else None,
            "first_audit": served.first_audit.to_json() if served.first_audit else None,
            "update_norm": served.update_norm,
            "train_config": config_to_json(served.train_config),
            "repair_rounds": served.repair_rounds,
        }
        self._ledger.set_state(_SERVED, body)

    def initial(self) -> Arrays | None:
        """What the first experience started from; None where nothing was trained here."""
        digest = self._ledger.state(_INITIAL)
        return self._checkpoints.load(str(digest)) if digest is not None else None

    def save_initial(self, digest: str) -> None:
        """Keep the model that the first experience starts from: it carries no data."""
        self._ledger.set_state(_INITIAL, digest)

    # ------------------------------------------------------------------ training

    def experiences(self) -> list[Experience]:
        """Every training experience that has come to its end, as it was run."""
        items = self._ledger.state(_EXPERIENCES)
        found = items if isinstance(items, list) else []
        return [Experience(int(item["rounds"]), config_from_json(item["config"])) for item in found]

    def finish_training(self, training: OpenTraining) -> None:
        """The experience has come to its end; call it within the transaction that accepts or refuses its model."""
        done = [{"rounds": item.rounds, "config": config_to_json(item.train_config)} for item in self.experiences()]
        done.append({"rounds": training.rounds, "config": config_to_json(training.config)})
        self._ledger.set_state(_EXPERIENCES, done)
        self._ledger.set_state(_TRAINING, None)

    def load_training(self) -> OpenTraining | None:
        """The experience that a crash cut short; None where there is none."""
        body = _mapping(self._ledger.state(_TRAINING))
        if not body:
            return None
        model = body["model"]
        return OpenTraining(
            name=str(body["name"]),
            first=int(str(body["first"])),
            rounds=int(str(body["rounds"])),
            done=int(str(body["done"])),
            config=config_from_json(body["config"]),
            arrays=self._checkpoints.load(str(model)) if model is not None else None,
        )

    def save_training(self, training: OpenTraining, served: ServedModel) -> None:
        """The experience as far as it has come: its model and the inner strategy's state first, the ledger last."""
        body = {
            "name": training.name,
            "first": training.first,
            "rounds": training.rounds,
            "done": training.done,
            "config": config_to_json(training.config),
            "model": self._checkpoints.save(training.arrays) if training.arrays is not None else None,
        }
        with self._ledger.transaction():
            self.save_inner()
            self.save_served(served)
            self._ledger.set_state(_TRAINING, body)

    def save_inner(self) -> None:
        """What the inner strategy carries from round to round."""
        groups, scalars = server_state(self._inner)
        body = {
            "digest": self._checkpoints.save(joined(groups)) if groups else None,
            "groups": list(groups),
            "scalars": dict(scalars),
        }
        self._ledger.set_state(_INNER, body)
        if self.accountant.releases:
            self._ledger.set_state(_PRIVACY, self.accountant.to_json())

    def load_inner(self) -> None:
        """Give it back to the inner strategy, in a new process."""
        body = _mapping(self._ledger.state(_INNER))
        if body:
            arrays = self._checkpoints.load(str(body["digest"])) if body["digest"] else {}
            names = [str(name) for name in body["groups"]]  # type: ignore[attr-defined]
            restore_server_state(self._inner, split(arrays, names), _mapping(body["scalars"]))

    # ------------------------------------------------------------------ requests

    def attempt(self) -> dict[str, object] | None:
        """The open attempt, as :meth:`save_attempt` was given it."""
        return _mapping(self._ledger.state(_ATTEMPT)) or None

    def save_attempt(self, body: Mapping[str, object] | None) -> None:
        """Which requests are being tried, how, and how far it has come; None where none are."""
        self._ledger.set_state(_ATTEMPT, None if body is None else dict(body))

    def save_method_state(self, state: MethodState) -> None:
        """Where the method of the open attempt has got to, at most every few seconds: what is lost is done again."""
        now = time.monotonic()
        if now - self._method_state_saved < self._seconds_between:
            return
        self._method_state_saved = now
        arrays, body = state.packed()
        attempt = self.attempt() or {}
        self.save_attempt({**attempt, "method_state": self._checkpoints.save(arrays), "method_body": body})

    def load_method_state(self) -> MethodState | None:
        """Where it had got to; None where the attempt begins."""
        attempt = self.attempt() or {}
        if "method_state" not in attempt:
            return None
        arrays = self._checkpoints.load(str(attempt["method_state"]))
        return MethodState.unpacked(arrays, _mapping(attempt["method_body"]))

    def request(self, request_id: str) -> dict[str, object]:
        """What is remembered of a request between its attempts."""
        return _mapping(self._ledger.state(f"request:{request_id}"))

    def save_request(self, request_id: str, body: Mapping[str, object] | None) -> None:
        """Remember it; None to forget it."""
        self._ledger.set_state(f"request:{request_id}", None if body is None else dict(body))

    # ------------------------------------------------------------------ files

    def purge(self) -> None:
        """Delete every checkpoint that nothing refers to: older ones carry what was forgotten since."""
        keep = {digest for digest in (self._ledger.served_model(), self._ledger.state(_INITIAL)) if digest}
        training, inner = _mapping(self._ledger.state(_TRAINING)), _mapping(self._ledger.state(_INNER))
        attempt = self.attempt() or {}
        keep |= {training.get("model"), inner.get("digest"), attempt.get("committing"), attempt.get("method_state")}
        self._checkpoints.purge({str(digest) for digest in keep if digest})


def joined(groups: Mapping[str, Arrays]) -> Arrays:
    """Several groups of arrays as one; :func:`split` takes them apart."""
    return {f"{index}/{name}": value for index, group in enumerate(groups.values()) for name, value in group.items()}


def split(arrays: Arrays, names: list[str]) -> dict[str, Arrays]:
    """The groups that were joined, by the names that they had, in the same order."""
    groups: dict[str, Arrays] = {name: {} for name in names}
    for key, value in arrays.items():
        index, _, name = key.partition("/")
        groups[names[int(index)]][name] = value
    return groups


def config_to_json(config: ConfigRecord) -> dict[str, object]:
    """A ConfigRecord as JSON; bytes are written in hexadecimal."""
    return {key: {"bytes": value.hex()} if isinstance(value, bytes) else value for key, value in config.items()}


def config_from_json(body: object) -> ConfigRecord:
    """Read what :func:`config_to_json` wrote."""
    values = {
        key: bytes.fromhex(value["bytes"]) if isinstance(value, dict) else value
        for key, value in _mapping(body).items()
    }
    return ConfigRecord(values)  # type: ignore[arg-type]


def _audit(body: object) -> Audit | None:
    return Audit.from_json(body) if isinstance(body, dict) else None


def _mapping(value: object) -> dict[str, object]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise FedUnlearnError("the ledger's state is not what this version wrote; restore it from a backup")
    return value
