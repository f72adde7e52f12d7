"""An attempt whose holders unlearn by themselves: their average for a class, the sum of their changes for samples."""

from __future__ import annotations

from collections.abc import Mapping

from fed_unlearn.arrays import Arrays, add_clipped, difference, norm
from fed_unlearn.seeding import derive_seed
from fed_unlearn.strategies.clients.rounds import ClientModels, client_of
from fed_unlearn.strategies.serving.attempt import Attempt

CONTRACTION = 0.9
"""Turns of several holders go on while the sum of their changes falls to this share of what it was."""


class HolderAttempt(Attempt):
    """The holders unlearn by themselves."""

    def unlearn(self) -> None:
        """The holders' turn: their average for a class, their clipped changes for samples."""
        if self.order.scope == "class":
            models = self._ask_holders(self.order.method)
            self._say_who(models)
            self.candidate = self._aggregated(self.candidate, models, "unlearn", self._round_number)
        else:
            self._take_turns()

    def _after_repair(self) -> None:
        """For samples the holders' turn follows, since averaging brings them back."""
        if self.order.scope == "sample":
            self._take_turns()

    def _take_turns(self) -> None:
        """Every holder unlearns from where the last turn led, until nothing is left to do.

        A change longer than the clipping norm arrives in several turns. Where there are several holders, the sum of
        their changes is not what any of them made: those who find a sample recognised again change the model once more,
        by less each time. A method that changes it by as much every time is not asked again, and samples that are only
        to look unseen may stay recognised.
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
            changes = {client: difference(model, self.candidate) for client, model in models.models.items()}
            bounds = {client: max_norm * self._requests_at(client) for client in changes}
            self.candidate = self._moved(models, changes, bounds)
            lengths = {client: norm(change) for client, change in changes.items()}
            clipped = [client for client, length in lengths.items() if length > bounds[client]]
            moved = [client for client, length in lengths.items() if length > 0]
            if not goes_on:
                clients = clipped
            elif sum(lengths.values()) > CONTRACTION * before and not clipped:
                return
            else:
                before = sum(lengths.values())
                clients = sorted(holders if clipped or len(moved) > 1 else holders - set(moved)) if moved else []
            if not clients:
                return

    def _requests_at(self, client: str) -> int:
        return sum(client_of(request) == client for request in self.requests)

    def _moved(self, models: ClientModels, changes: Mapping[str, Arrays], bounds: Mapping[str, float]) -> Arrays:
        if self.context.kind.is_private:
            return self._aggregated(self.candidate, models, "unlearn", self._round_number)
        moved = self.candidate
        for client, change in changes.items():
            moved = add_clipped(moved, [change], bounds[client])
        return moved

    @property
    def _round_number(self) -> int:
        """A number that no other unlearn round has: noise must not be drawn twice from one seed."""
        return derive_seed(*self.order.ids, self.order.number, self.step)

    def _say_who(self, models: ClientModels) -> None:
        where = "client" if len(models.models) == 1 else "clients"
        self.say(f"unlearned by {self.order.method} at {where} {', '.join(models.models)}")
