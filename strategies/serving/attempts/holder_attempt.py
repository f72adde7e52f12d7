"""An attempt whose holders unlearn by themselves: their average for a class, the sum of their changes for samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from fed_unlearn.arrays import Arrays, add_clipped, difference, hardly_differs, norm
from fed_unlearn.gate import Decision, Verdict
from fed_unlearn.requests import ForgetRequest, ParameterValue
from fed_unlearn.seeding import derive_seed
from fed_unlearn.strategies.clients.client_models import ClientModels
from fed_unlearn.strategies.clients.replies import message_with
from fed_unlearn.strategies.clients.rounds import client_of
from fed_unlearn.strategies.inner.statistics import bounded_statistics
from fed_unlearn.strategies.outcomes import RequestProgress
from fed_unlearn.strategies.serving.attempts.allowance import Allowance, RequestBudget
from fed_unlearn.strategies.serving.attempts.attempt import Attempt
from fed_unlearn.strategies.serving.attempts.failures import HoldersAwayError
from fed_unlearn.strategies.serving.attempts.reference import reads_reference, train_reference

CONTRACTION = 0.9
"""Turns of several holders go on while the sum of their changes falls to this share of what it was."""


@dataclass
class HolderAttempt(Attempt):
    """The holders unlearn by themselves.

    Attributes
    ----------
    allowances : dict of str to Allowance
        How far each holder of a sample request may move the model, over all its turns, and how far it has.
    """

    allowances: dict[str, Allowance] = field(default_factory=dict, init=False)
    _moved_by_turns: Arrays = field(default_factory=dict, init=False, repr=False)

    def unlearn(self) -> None:
        """The holders' turn: their average for a class, their clipped changes for samples."""
        if self.order.scope == "class":
            models = self._ask_holders(self.order.method)
            self._say_who(models)
            before = self.candidate
            self.candidate = self._aggregated(before, models, "unlearn", self._round_number)
            self._note_changes(models, before)
        else:
            self._check_budgets()
            self._find_reference()
            self._take_turns()

    def _find_reference(self) -> None:
        """Have all clients train the reference where the holders' method measures by one.

        A client that is alone trains it by itself, as on one machine.
        """
        if not self._goes_by_reference or self._is_alone:
            return
        self._ask_holders(None)  # they must not train it on the samples
        self.step -= 1
        found = train_reference(self.context, self.order)
        if isinstance(found, str):
            self.say(f"no reference for {self.order.method}, which goes by ranks: {found}")
        else:
            self.reference = found
            self.say(f"reference for {self.order.method} trained without the samples")

    def _parameters(self) -> dict[str, ParameterValue]:
        """A holder that is sent no reference goes by ranks: beside other clients its own samples train a bad one."""
        lacks_reference = self.reference is None and self._goes_by_reference and not self._is_alone
        return {**super()._parameters(), **({"targets": "ranks"} if lacks_reference else {})}

    @property
    def _is_alone(self) -> bool:
        return len(self.context.grid.roster.staying) == 1

    @cached_property
    def _goes_by_reference(self) -> bool:
        return self.order.scope == "sample" and reads_reference(self.order)

    def _check_budgets(self) -> None:
        """Have the samples of requests that must wait for the next training taken out of it, and let them wait."""
        shortages = {request.id: self._budget.shortage(client_of(request) or "") for request in self.requests}
        waiting = {name: reason for name, reason in shortages.items() if reason is not None}
        if waiting:
            self._ask_holders(None)
            raise HoldersAwayError("; ".join(dict.fromkeys(waiting.values())), tuple(waiting))

    def _after_repair(self) -> None:
        """For samples the holders' turn follows, since averaging brings them back."""
        if self.order.scope == "sample":
            self._take_turns()

    def _take_turns(self) -> None:
        """Every holder unlearns from where the last turn led, until nothing is left to do.

        A change longer than the clip norm arrives in several turns, as far as the plan allows. Where there are several
        holders, the sum of their changes is not what any of them made: those who find a sample recognised again change
        the model once more, by less each time. A method that changes it by as much every time is not asked again, and
        samples that are only to look unseen may stay recognised.
        """
        max_norm = self.max_update_norm()
        holders = {client_of(request) or "" for request in self.requests}
        goes_on = len(holders) > 1 and self.order.parameters.get("goal") != "indistinguishable"
        clients: list[str] | None = None
        before = float("inf")
        for _ in range(self.context.plan.holder_turn.max_steps):
            looks_first = goes_on and self.step > 0
            models = self._ask_holders(self.order.method, clients, only_if_recognised=looks_first)
            self._say_who(models)
            base = self.candidate
            changes = {client: difference(model, base) for client, model in models.models.items()}
            taken = {client: self._allowance(client, max_norm).take(change) for client, change in changes.items()}
            self.candidate = self._moved(models, changes, taken)
            self._note_changes(models, base)
            lengths = {client: norm(change) for client, change in changes.items()}
            clipped = [client for client, change in changes.items() if taken[client] is not change]
            moved = [client for client, length in lengths.items() if length > 0]
            if not goes_on:
                clients = clipped
            elif sum(lengths.values()) > CONTRACTION * before and not clipped:
                return
            else:
                before = sum(lengths.values())
                clients = sorted(holders if clipped or len(moved) > 1 else holders - set(moved)) if moved else []
            clients = [client for client in clients if not self._is_spent(client)]
            if not clients:
                return

    def _is_spent(self, client: str) -> bool:
        """Whether a holder has moved the model as far as it may: further turns would be for nothing."""
        return client in self.allowances and self.allowances[client].is_spent

    def moved_by_clients(self) -> dict[str, float]:
        """How far the holders moved the model, as multiples of the clip norm."""
        return {client: allowance.used for client, allowance in self.allowances.items()}

    def explained(
        self, decisions: Mapping[str, Decision], progress: Mapping[str, RequestProgress]
    ) -> dict[str, Decision]:
        """The decisions on sample requests, with what the plan did not allow where that can be why.

        Raises
        ------
        HoldersAwayError
            If the budget of a client was too small: its request waits for the next training. Requests that shared the
            attempt are tried again, those of the same client each by itself.
        """
        explained, waiting, reasons = dict(super().explained(decisions, progress)), list[str](), dict[str, None]()
        for request in self.requests:
            allowance, decision = self.allowances.get(client_of(request) or ""), explained.get(request.id)
            if allowance is None or decision is None or decision.verdict in (Verdict.ACCEPT, Verdict.HOLD):
                continue
            if allowance.lacks_budget:
                known, alone = progress[request.id], allowance.requests == 1
                known.alone, known.needs = known.alone or not alone, allowance.needed if alone else known.needs
                reasons[self._budget.shortage(allowance.client, allowance.needed) or ""] = None
                if alone:
                    waiting.append(request.id)
            elif (shortfall := allowance.shortfall()) is not None:
                explained[request.id] = replace(decision, reasons=(*decision.reasons, shortfall))
        if reasons:
            raise HoldersAwayError("; ".join(filter(None, reasons)), tuple(waiting))
        return explained

    @property
    def _budget(self) -> RequestBudget:
        return RequestBudget(self.context.ledger, self.context.plan.request_bound)

    def _allowance(self, client: str, max_norm: float) -> Allowance:
        if client not in self.allowances:
            requests = sum(client_of(request) == client for request in self.requests)
            of_request = self.context.plan.request_bound.of_request
            self.allowances[client] = Allowance(client, max_norm, requests, of_request, self._budget.left(client))
        return self.allowances[client]

    def _moved(self, models: ClientModels, changes: Mapping[str, Arrays], taken: Mapping[str, Arrays]) -> Arrays:
        if self.context.kind.is_private:
            return self._aggregated(self.candidate, self._within(models, changes, taken), "unlearn", self._round_number)
        moved = self.candidate
        for change in taken.values():
            moved = add_clipped(moved, [change], float("inf"))
        return moved

    def _within(self, models: ClientModels, changes: Mapping[str, Arrays], taken: Mapping[str, Arrays]) -> ClientModels:
        """The models as a privacy wrapper is shown them: a sum of turns that is too long and statistics are bounded."""
        factor = self.context.plan.max_norm_factor
        bounded = bounded_statistics(models.models, self.candidate, factor, alone=True)
        for client, allowance in self.allowances.items():
            if client in changes and allowance.was_exceeded and taken[client] is not changes[client]:
                bounded[client] = add_clipped(self.candidate, [taken[client]], float("inf"))
        messages = {
            client: message if bounded[client] is models.models[client] else message_with(message, bounded[client])
            for client, message in models.messages.items()
        }
        return replace(models, models=bounded, messages=messages)

    @property
    def _round_number(self) -> int:
        """A number that no other unlearn round has: noise must not be drawn twice from one seed."""
        return derive_seed(*self.order.ids, self.order.number, self.step)

    def _note_changes(self, models: ClientModels, base: Arrays) -> None:
        """Note whose step has changed the model, unless all that the holders' turns did to it cancels out."""
        self.changed_by.update(client for client, model in models.models.items() if not hardly_differs(model, base))
        names = [name for name, value in base.items() if np.issubdtype(value.dtype, np.floating)]
        for name in names:
            self._moved_by_turns[name] = self._moved_by_turns.get(name, 0.0) + (self.candidate[name] - base[name])

    def has_changed(self, request: ForgetRequest) -> bool:
        """Whether holders of a request have changed the model, and no other turn has taken that back."""
        served = self.context.served.arrays
        moved = {name: served[name] + change for name, change in self._moved_by_turns.items()}
        return super().has_changed(request) and not hardly_differs({**served, **moved}, served)

    def _say_who(self, models: ClientModels) -> None:
        where = "client" if len(models.models) == 1 else "clients"
        self.say(f"unlearned by {self.order.method} at {where} {', '.join(models.models)}")
