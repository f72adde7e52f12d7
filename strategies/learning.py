"""Training that requests interrupt: an experience is trained, judged by the gate, and served from then on."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass

from fed_unlearn.arrays import all_finite
from fed_unlearn.audits.pooled import Audit
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.gate import Verdict
from fed_unlearn.strategies.clients.audit import Auditor
from fed_unlearn.strategies.clients.bounds.plausibility import Deviation, deviations, doubted_clients
from fed_unlearn.strategies.clients.messages.exchange import ClientsFailedError, NobodyAnsweredError
from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.inner.kept_models import reset_to
from fed_unlearn.strategies.inner.own_start import has_own_start
from fed_unlearn.strategies.serving.attempts.allowance import RequestBudget
from fed_unlearn.strategies.serving.service import RequestService
from fed_unlearn.strategies.state import owe_look
from fed_unlearn.strategies.training.driving import DrivenStart, TrainingStopped
from fed_unlearn.strategies.training.experience import TrainingExperience

logger = logging.getLogger("fed_unlearn.strategies")

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Learning:
    """Trains an experience, and serves what is pending between its rounds and after it.

    Attributes
    ----------
    context : CallContext
        What the call works with.
    service : RequestService
        Serves requests.
    """

    context: CallContext
    service: RequestService

    def run(self, experience: TrainingExperience) -> bool:
        """Train the experience from where it stands to its end.

        Returns
        -------
        bool
            False where the experience stays open, since no client is there or nobody audits its model: the next call
            goes on with it. Requests wait meanwhile, since its model may carry what they ask to forget.

        Raises
        ------
        ClientsFailedError
            If clients are there, and none has trained in any of its rounds, or none can be audited after them. The
            experience stays open, in the former case from its first round.
        """
        self.service.refresh()
        training = experience.training
        experience.resume()
        if training.done:
            logger.info("%s goes on after round %d of %d", training.name, training.done, training.rounds)
        else:
            experience.save()
        experience.tell("training-started", f"{training.name}: {training.rounds} rounds")
        if experience.lacks_evaluation:
            self._make_up(experience)
        if experience.has_rounds_left:
            start = DrivenStart(
                experience, lambda: self._before_round(experience), lambda: self._after_round(experience)
            )
            try:
                self.context.result.inner = start.run(self.context.timeout)
            except TrainingStopped:
                return False
            self._check_rounds(experience)
        elif has_own_start(self.context.inner):
            logger.warning(
                "%s has all its rounds, and start() of %s is not called again", training.name, _name(self.context)
            )
        return self._finish(experience)

    def _make_up(self, experience: TrainingExperience) -> None:
        """Do what follows a round, where an earlier process ended between the round and its evaluation."""
        self._after_round(experience)
        if experience.unjudged is None and not experience.failures():
            experience.evaluate()

    def _before_round(self, experience: TrainingExperience) -> None:
        """Write down what was done, serve what came since, and wait until a client is there.

        Raises
        ------
        TrainingStopped
            If none comes.
        """
        experience.note_evaluation()
        experience.keep()
        if experience.training.done and self.service.has_work():
            self._serve_between(experience)
        if not self._somebody_comes(experience):
            self._stay_open(experience, "no client is there")
            raise TrainingStopped

    def _after_round(self, experience: TrainingExperience) -> None:
        """Serve what waits; after the last round, put the trained model before the gate in any case."""
        if experience.has_rounds_left:
            if self.service.has_work():
                experience.keep()
                self._serve_between(experience)
        elif not experience.failures():
            experience.keep()
            try:
                self._accept(experience)
            except NobodyAnsweredError as error:
                experience.unjudged = error
            else:
                self.service.serve_pending()

    def _serve_between(self, experience: TrainingExperience) -> None:
        """Serve what is pending, where the gate has seen the model of the rounds so far."""
        if self._is_accepted(experience):
            self.service.serve_pending()

    def _check_rounds(self, experience: TrainingExperience) -> None:
        """See what a ``start()`` has done; one may end before the last round.

        Raises
        ------
        InvalidParameterError
            If it has not trained at all.
        """
        training = experience.training
        if not training.done:
            raise InvalidParameterError(
                f"start() of {_name(self.context)} has ended and never called self.aggregate_train, so that nothing was"
                " trained; have it call the four hooks of Flower, as Strategy.start does"
            )
        if experience.has_rounds_left:
            logger.info("%s ended after round %d of %d", training.name, training.done, training.rounds)
            training.rounds = training.done

    def _finish(self, experience: TrainingExperience) -> bool:
        """End the experience; False where nobody audits its model, so that it stays open."""
        training = experience.training
        experience.note_evaluation()
        if failures := experience.failures():
            experience.start_again()
            self._stay_open(experience, "no client has trained")
            raise ClientsFailedError.of(f"{training.name} stays open: no client has trained", failures)
        try:
            if experience.unjudged is not None:
                raise experience.unjudged
            self._accept(experience)
        except NobodyAnsweredError as error:
            self._stay_open(experience, "nobody has audited its model")
            if error.failed:
                what = f"{training.name} stays open: no client could be audited"
                raise ClientsFailedError.of(what, error.failed) from error
            return False
        with self.context.ledger.transaction():
            experience.save(finished=True)
        experience.tell("training-finished", training.name)
        self.service.serve_pending()
        return True

    def _somebody_comes(self, experience: TrainingExperience) -> bool:
        """Whether a client that stays is there, or comes within the time of an exchange."""
        tries = 0
        deadline = time.monotonic() + self.context.timeout
        while not self.context.grid.connected():
            if time.monotonic() > deadline:
                return False
            asks_again = self.context.grid.has_new_nodes()
            if asks_again:
                self.service.refresh()
                tries += 1
            if not asks_again or tries > self.context.plan.retry.count:
                self._raise_if_all_are_kept_away(experience)
            time.sleep(_POLL_SECONDS)
        return True

    def _raise_if_all_are_kept_away(self, experience: TrainingExperience) -> None:
        """Raise ClientsFailedError if nobody is there, and every client that could come is connected but left out.

        Waiting does not bring back a store that lost its tombstones.
        """
        grid = self.context.grid
        kept_away = grid.kept_away()
        if grid.connected() or grid.roster.known - grid.roster.leaving - kept_away.keys():
            return
        self._stay_open(experience, "every client is left out")
        what = f"{experience.training.name} stays open: every client is left out"
        if kept_away:
            raise ClientsFailedError.of(what, kept_away)
        raise ClientsFailedError(f"{what}: each of them is being forgotten, or was; connect others and run it again")

    def _stay_open(self, experience: TrainingExperience, reason: str) -> bool:
        training = experience.training
        logger.warning(
            "%s stays open after round %d of %d: %s; the next call goes on with it",
            training.name,
            training.done,
            training.rounds,
            reason,
        )
        experience.save()
        return False

    def _is_accepted(self, experience: TrainingExperience) -> bool:
        """Put the trained model before the gate; False where nobody audited it, which may be done later."""
        try:
            self._accept(experience)
        except NobodyAnsweredError as error:
            logger.warning("%s is not served yet: %s", experience.training.name, error)
            return False
        return True

    def _accept(self, experience: TrainingExperience) -> None:
        """Put the trained model before the gate, and serve it where it is accepted.

        Raises
        ------
        NobodyAnsweredError
            If nobody audited it.
        """
        training, context = experience.training, self.context
        if training.arrays is None:
            return
        auditor = Auditor(context)
        audit = auditor.audit_committed(training.arrays)
        auditor.keep_comparable(audit)
        refusal = self._refusal(experience, audit)
        if refusal is not None:
            self._refuse(experience, refusal)
            return
        digest = context.checkpoints.save(training.arrays)
        context.served.arrays, context.served.audit = training.arrays, audit.without_targets()
        training.arrays = None
        with context.ledger.transaction():
            context.ledger.accept_model(digest, training.name)
            RequestBudget(context.ledger, context.plan.request_bound).reset()
            owe_look(context.ledger, training.name, may_reopen=True)
            experience.save()
        context.state.purge()
        self.service.watch.look(training.name, audit, may_reopen=True)

    def _refusal(self, experience: TrainingExperience, audit: Audit) -> str | None:
        """Why the gate does not accept the trained model; None where it does."""
        served = self.context.served.audit
        left_out = self.context.ledger.forgotten_classes()
        left_out |= served.absent_classes if served is not None else frozenset()
        refusal = self._refusal_by(experience, audit, left_out)
        doubted = doubted_clients(audit, lambda seen: deviations(seen, served, without=left_out))
        for client, deviation in doubted.items():
            by_others = self._refusal_by(experience, audit.without([client]), left_out)
            if (refusal is None) is not (by_others is None):
                self._say_doubt(experience, deviation)
                return by_others
        return refusal

    def _refusal_by(self, experience: TrainingExperience, audit: Audit, left_out: Collection[int]) -> str | None:
        served = self.context.served.audit
        both = set(audit.replies) & set(served.replies) if served is not None else None
        counts = audit.validation(both)
        before = served.validation(both, by_server=audit.server is not None) if served is not None else None
        decision = self.context.gate.decide_training(
            finite=all_finite(experience.training.arrays or {}),
            retain_accuracy=counts.accuracy(without=left_out) if counts is not None else None,
            accepted=before.accuracy(without=left_out) if before is not None else None,
        )
        return None if decision.verdict is Verdict.ACCEPT else decision.reason or ""

    def _say_doubt(self, experience: TrainingExperience, deviation: Deviation) -> None:
        """Name a client whose figures alone would have turned the verdict; the others' figures decide."""
        text = f"{experience.training.name} is judged without client {deviation.client}: {deviation}"
        logger.warning("%s", text)
        experience.tell("figures-doubted", text)
        self.context.ledger.note("figures-doubted", {"experience": experience.training.name})

    def _refuse(self, experience: TrainingExperience, reason: str) -> None:
        training, context = experience.training, self.context
        text = f"{training.name} is not served: {reason}; the last accepted model stays"
        logger.warning("%s", text)
        experience.tell("training-refused", text)
        training.arrays = None
        reset_to(context.inner, context.served.arrays, "since the trained model is not served")
        with context.ledger.transaction():
            context.ledger.note("training-refused", {"experience": training.name})
            experience.save()


def _name(context: CallContext) -> str:
    return type(context.inner).__name__
