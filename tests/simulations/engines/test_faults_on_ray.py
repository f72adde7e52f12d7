"""Faults of clients on Ray: they lead to what they lead to in process, bit for bit.

One run has all that can happen there: clients that raise, time out, answer late, and send NaN, infinite arrays, other
shapes and other dtypes, in training and in unlearning. A client cannot answer twice on Flower's runtimes: a message is
answered once, and the server asks for that answer alone. For the same reason an answer that comes when nobody waits any
more is never seen again; what the client has done by then stays done, and a new attempt or a confirmation builds on it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from faulty_app import faulty_app
from faulty_grid import FaultyGrid

from fed_unlearn import protocol
from fed_unlearn.simulations.engines.ray_engine import RayResources, run_on_ray
from fed_unlearn.simulations.inprocess import InProcessGrid

APP = Path(__file__).parents[2] / "support" / "faulty_app"
ENDED = {
    "class-raises": ["failed", 2, []],
    "class-nan": ["committed", 2, []],
    "samples-shape": ["committed", 2, []],
}


def in_process(out: Path) -> dict[str, object]:
    """The same app; where a client is late on Ray, its answer is lost."""
    grid = FaultyGrid(
        InProcessGrid(faulty_app.client, faulty_app.CLIENTS, run_config={"out": str(out), "engine": "inprocess"})
    )

    def before(phase: str) -> None:
        grid.heal()
        if phase == "late training":
            grid.fault("silent", 2, protocol.TRAIN, times=1)
        if phase == "late requests":
            grid.fault("silent", 2, protocol.UNLEARN, times=1)
            grid.fault("silent", 1, protocol.UNLEARN, times=1)

    return faulty_app.run(grid, out, before)


def check(facts: dict[str, object]) -> None:
    requests = {phase: said["requests"] for phase, said in facts.items()}  # type: ignore[index]
    assert requests["late training"] == {}
    assert requests["requests"] == ENDED
    late = {**ENDED, "samples-late": ["committed", 2, []], "class-late": ["committed", 1, []]}
    assert requests["late requests"] == late  # what is owed is settled before the call ends, and who waited is asked
    assert requests["all is well"] == late


def test_every_fault_in_process(tmp_path: Path) -> None:
    check(in_process(tmp_path))


@pytest.mark.ray
def test_every_fault_on_ray_leads_to_the_same(tmp_path: Path) -> None:
    out, lines = tmp_path / "ray", []
    out.mkdir()
    run = run_on_ray(out, RayResources(clients=faulty_app.CLIENTS, cpus=2), app=APP, on_line=lines.append)
    assert run.completed, run.error_line
    facts = json.loads((out / "facts.json").read_text())
    check(facts)
    (tmp_path / "inprocess").mkdir()
    assert facts == in_process(tmp_path / "inprocess")
    said = "\n".join(lines)
    for reason in ("OSError at the client", "is not finite", "did not answer train.unlearn"):
        assert reason in said
