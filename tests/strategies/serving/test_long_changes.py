"""One client's change beside those of the others in a round of a request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from federation import FAST_PLAN, initial_arrays
from hostile import hostile_federation, on_models
from lies import biased

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, difference, norm
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients import rounds


@pytest.mark.parametrize(("purpose", "kind"), [("unlearn", protocol.UNLEARN), ("repair", protocol.REPAIR)])
def test_a_change_counts_as_at_most_a_multiple_of_the_longest_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, purpose: str, kind: str
) -> None:
    """By hand: the average of the four changes, the liar's 60 long one scaled down to 1.5 or 3 times the others'.

    It is named, and nobody else is.
    """
    seen: list[tuple[str, Arrays, rounds.ClientModels, Arrays]] = []
    aggregate = rounds.Rounds.aggregate

    def noted(
        self: rounds.Rounds,
        base: Arrays,
        trained: rounds.ClientModels,
        purpose: str,
        number: int,
        max_norm: float | None = None,
    ) -> Arrays:
        made = aggregate(self, base, trained, purpose, number, max_norm)
        seen.append((purpose, base, trained, made))
        return made

    monkeypatch.setattr(rounds.Rounds, "aggregate", noted)
    federation = hostile_federation(tmp_path, {2: on_models(biased, [kind])})
    strategy = federation.strategy(plan=FAST_PLAN)
    strategy.start(federation.grid, initial_arrays=initial_arrays(), num_rounds=4)
    strategy.submit(ForgetRequest.for_class(3))
    strategy.start(federation.grid, num_rounds=0)
    base, trained, made = next(item[1:] for item in seen if item[0] == purpose)
    changes = {client: difference(model, base) for client, model in trained.models.items()}
    others = max(norm(change) for client, change in changes.items() if client != "2")
    factor = {"unlearn": 1.5, "repair": 3.0}[purpose] * others / norm(changes["2"])
    assert norm(changes["2"]) == pytest.approx(60)
    assert strategy.served.update_norm is not None
    factor = min(factor, 10 * strategy.served.update_norm / 60)
    total = sum(trained.weights.values())
    for name, value in base.items():
        expected = value + sum(
            trained.weights[client] / total * change[name] * (factor if client == "2" else 1)
            for client, change in changes.items()
        )
        np.testing.assert_allclose(made[name], expected, rtol=1e-4, atol=1e-5)
    scaled = [record.getMessage() for record in caplog.records if "it is scaled down" in record.getMessage()]
    assert scaled and all(text.startswith("client 2 changes the model by 60, over ") for text in scaled)
