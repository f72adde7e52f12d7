"""The scenario ``frozen-head``: every request is committed, reads nothing but what audits read, and equals the oracle."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from fed_unlearn.simulations.cli import run_command


def test_every_request_of_the_scenario_is_exact_and_reads_no_sample(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run_command(["run", "frozen-head", "--oracle", "--out", str(out)]) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["training"]["forward_passes"] == 1223  # every training sample once, in two trainings
    assert results["training"]["backward_passes"] == 0
    assert results["training"]["test_accuracy"] > 0.97
    scopes = [request["scope"] for request in results["requests"]]
    assert scopes == ["sample", "class", "sample", "client", "sample", "class", "client", "sample"]
    retraining = [request["oracle_passes"] for request in results["requests"]]
    assert retraining[0] == 1223 - 4, "retraining reads each retained sample once, whatever clients have kept"
    assert all(later < earlier for earlier, later in pairwise(retraining))
    for request in results["requests"]:
        assert request["status"] == "committed"
        known = ["by construction", "measured"] if request["scope"] == "class" else ["by construction"]
        assert request["evidence"] in known
        assert [part for part, passes in request["passes_by_part"].items() if passes] == ["audit"]
        assert request["passes"] - request["passes_by_part"]["audit"] <= 0.01 * request["oracle_passes"]
        after, oracle = request["after"], request["oracle"]
        shared = [name for name in after if isinstance(after[name], float) and isinstance(oracle.get(name), float)]
        assert len(shared) >= 4
        assert {name: after[name] for name in shared} == {name: oracle[name] for name in shared}
