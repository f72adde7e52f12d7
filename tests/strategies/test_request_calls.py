"""What a timeline's requests may name is checked before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from federation import initial_arrays, make_federation

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import Forget, Train

MISSPELT = ForgetRequest.for_class(3, method="delte", id="r")


def test_a_timeline_with_an_unknown_method_is_refused_before_training(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    strategy = federation.strategy()
    timeline = [Train(rounds=1), Forget((ForgetRequest.for_class(4, method="delete", id="known"), MISSPELT))]
    with pytest.raises(InvalidParameterError, match=r"^method 'delte' is unknown; did you mean delete\? known are "):
        strategy.run(federation.grid, timeline, initial_arrays())
    assert strategy.ledger.entries() == [] and strategy.state.experiences() == []


def test_a_request_that_the_ledger_has_already_may_name_a_method_that_is_gone(tmp_path: Path) -> None:
    strategy = make_federation(tmp_path).strategy()
    strategy.ledger.receive(MISSPELT)
    strategy.announce([Train(rounds=1), Forget((MISSPELT, ForgetRequest.for_class(4, id="r2")))])
    assert strategy.ledger.receive(ForgetRequest.for_class(5)) == "r3", "r2 is kept for the timeline"
