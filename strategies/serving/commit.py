"""The commit of requests: tombstones on the holders' disks, then one transaction of the ledger, then the purge."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from fed_unlearn import protocol
from fed_unlearn.audits.pooled import Audit
from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ClassScope, ClientScope, ForgetRequest
from fed_unlearn.strategies.clients.rounds import Rounds, client_of
from fed_unlearn.strategies.outcomes import RequestOutcome
from fed_unlearn.strategies.serving.attempt import CommitFailedError
from fed_unlearn.strategies.serving.relapse import owe_look
from fed_unlearn.strategies.state import DurableState, ServedModel

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass(frozen=True)
class Committer:
    """Commits accepted requests; what a crash cuts short goes on from where the ledger says it was.

    Attributes
    ----------
    rounds, ledger, checkpoints, state
        What it works with.
    served : ServedModel
        Replaced in place.
    purge_history : callable
        Deletes the stored rounds.
    forget_server_state : callable
        Drops momenta and copies of the model that still carry the forgotten data.
    """

    rounds: Rounds
    ledger: Ledger
    checkpoints: CheckpointStore
    state: DurableState
    served: ServedModel
    purge_history: Callable[[], None]
    forget_server_state: Callable[[], None]

    def begin(
        self,
        outcomes: Mapping[str, RequestOutcome],
        digest: str,
        audit: Audit,
        holders: Mapping[str, Collection[str]],
        away: Collection[str],
    ) -> None:
        """Write down that these requests are accepted with this model; from here on they are committed, crash or not.

        Parameters
        ----------
        outcomes : mapping of str to RequestOutcome
            By request.
        digest : str
            Of the model, which is on disk.
        audit : Audit
            Of it.
        holders : mapping of str to collection of str
            By request, the clients that must have their tombstones before the commit.
        away : collection of str
            Clients that could not be asked: they may hold samples of class requests.
        """
        with self.ledger.transaction():
            for name, outcome in outcomes.items():
                facts = {"digest": digest, **_figures(outcome)}
                self.ledger.advance(name, Status.COMMITTING, attempt=outcome.attempts, facts=facts)
            body = {
                "requests": list(outcomes),
                "committing": digest,
                "outcomes": {name: outcome.to_json() for name, outcome in outcomes.items()},
                "audit": audit.without_targets().to_json(),
                "holders": {name: sorted(clients) for name, clients in holders.items() if name in outcomes},
                "away": sorted(away),
                "repair_rounds": self.served.repair_rounds,
                "update_norm": self.served.update_norm,
            }
            self.state.save_attempt(body)

    def finish(self, body: Mapping[str, object]) -> dict[str, RequestOutcome]:
        """Tombstones, the ledger's transaction, the purge.

        Parameters
        ----------
        body : mapping
            What :meth:`begin` wrote down.

        Returns
        -------
        dict of str to RequestOutcome
            By request.

        Raises
        ------
        CommitFailedError
            If a holder answers, and does not confirm its tombstones; the served model is as it was. One that does not
            answer owes them, and takes no part until it has them: its samples are quarantined already.
        """
        written: dict[str, dict[str, object]] = body["outcomes"]  # type: ignore[assignment]
        outcomes = {
            name: RequestOutcome.from_json(self.ledger.entry(name).request, item) for name, item in written.items()
        }
        requests = [outcome.request for outcome in outcomes.values()]
        attempts = {name: outcome.attempts for name, outcome in outcomes.items()}
        started = time.perf_counter()
        confirmed, silent = self._confirm(requests, attempts, body["holders"])  # type: ignore[arg-type]
        outcomes = self._with_cost(outcomes, time.perf_counter() - started)
        self.purge_history()
        digest = str(body["committing"])
        served = self.served
        if served.first_audit is None:
            served.first_audit = served.audit
        served.arrays = self.checkpoints.load(digest)
        served.audit = Audit.from_json(body["audit"])  # type: ignore[arg-type]
        served.repair_rounds = int(str(body["repair_rounds"]))
        served.update_norm = body["update_norm"]  # type: ignore[assignment]
        self.forget_server_state()
        with self.ledger.transaction():
            ended = {name: outcome.to_json() for name, outcome in outcomes.items()}
            self.ledger.commit(ended, digest, attempts=attempts)
            owe_look(self.ledger, "+".join(outcomes), may_reopen=False)
            self._note_departures_and_debts(requests, set(body["away"]) - confirmed, silent)  # type: ignore[call-overload]
            for name in outcomes:
                self.state.save_request(name, None)
            self.state.save_served(served)
            self.state.save_inner()
            self.state.save_attempt(None)
        self.state.purge()
        return outcomes

    def settle_debts(self) -> list[str]:
        """Have clients that were away write the tombstones that they owe; those that do not are left out.

        Returns
        -------
        list of str
            Clients that had something to write, and did.
        """
        settled: list[str] = []
        for client in list(self.rounds.grid.roster.staying.values()):
            owed = [self.ledger.entry(name) for name in self.ledger.owed_requests(client)]
            if not owed:
                continue
            requests = [entry.request for entry in owed]
            attempts = {entry.id: entry.attempt for entry in owed}
            answers = self.rounds.settle(protocol.CONFIRM, requests, attempts, clients=[client])
            if client not in answers.replies:
                if client in self.rounds.grid.roster.staying.values():
                    self.rounds.grid.bar(client, "it owes tombstones and does not confirm them")
                continue
            with self.ledger.transaction():
                self.ledger.confirm_tombstones(client, self.rounds.grid.roster.tombstones[client])
                for entry in owed:
                    self.ledger.settle_owed(entry.id, client)
                owe_look(self.ledger, f"tombstones:{client}", may_reopen=True)
            settled.append(client)
        return settled

    def _with_cost(self, outcomes: dict[str, RequestOutcome], seconds: float) -> dict[str, RequestOutcome]:
        parts = self.rounds.grid.take_traffic().divided(len(outcomes))
        for outcome, part in zip(outcomes.values(), parts, strict=True):
            part.add(outcome.traffic)
        return {
            name: replace(outcome, seconds=outcome.seconds + seconds / len(outcomes), traffic=part)
            for (name, outcome), part in zip(outcomes.items(), parts, strict=True)
        }

    def _confirm(
        self, requests: list[ForgetRequest], attempts: Mapping[str, int], holders: Mapping[str, Collection[str]]
    ) -> tuple[set[str], dict[str, set[str]]]:
        """Have tombstones written, and remember what each client showed; asks once more where a holder is missing.

        Returns
        -------
        tuple of (set of str) and (dict of str to set of str)
            Clients that have them; and by request, its holders that did not answer.
        """
        bound = {name: set(clients) for name, clients in holders.items() if self._must_confirm(name)}
        missing = set().union(*bound.values())
        confirmed: set[str] = set()
        for _ in range(2):
            answers = self.rounds.settle(protocol.CONFIRM, requests, attempts)
            with self.ledger.transaction():
                for client in answers.replies:
                    self.ledger.confirm_tombstones(client, self.rounds.grid.roster.tombstones[client])
            confirmed.update(answers.replies)
            missing -= confirmed
            if not missing:
                break
        refusing = sorted(missing & {*answers.failed, *answers.refused})
        if refusing:
            raise CommitFailedError(f"clients {', '.join(refusing)} did not confirm their tombstones")
        return confirmed, {name: clients & missing for name, clients in bound.items()}

    def _must_confirm(self, name: str) -> bool:
        """A client that is forgotten never trains again, whatever it writes down."""
        return not isinstance(self.ledger.entry(name).request.scope, ClientScope)

    def _note_departures_and_debts(
        self, requests: list[ForgetRequest], away: Collection[str], silent: Mapping[str, Collection[str]]
    ) -> None:
        """Clients that owe tombstones are in no round until they have written them."""
        roster = self.rounds.grid.roster
        departed = self.ledger.departed()
        absent = {*away, *(set(self.ledger.known_clients()) - set(roster.staying.values()))} - departed
        undecided = [*self.ledger.pending(), *self.ledger.release_due()]
        may_stay = {client_of(entry.request) for entry in undecided if isinstance(entry.request.scope, ClientScope)}
        for request in requests:
            owing = set(silent.get(request.id, ()))
            match request.scope:
                case ClientScope(client=client):
                    self.ledger.depart(client)
                case ClassScope():
                    owing |= absent - (roster.leaving - may_stay)
            if owing:
                self.ledger.owe(request.id, owing)
                logger.warning("request %s: clients %s owe their tombstones", request.id, ", ".join(sorted(owing)))
            for client in owing & set(roster.staying.values()):
                self.rounds.grid.bar(client, "it owes tombstones")


def _figures(outcome: RequestOutcome) -> dict[str, float | None]:
    measured = outcome.after
    if measured is None:
        return {}
    return {
        "forget_accuracy": measured.forget_accuracy,
        "retain_accuracy": measured.retain_accuracy,
        "test_forget_accuracy": measured.test_forget_accuracy,
        "test_retain_accuracy": measured.test_retain_accuracy,
        "membership_auc": measured.membership_auc,
    }
