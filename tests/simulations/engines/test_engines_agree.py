"""Where a run is computed must not show in what it computes."""

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from fed_unlearn.ledger import Ledger
from fed_unlearn.simulations.cli import run_command

TINY = Path(__file__).parents[2] / "support" / "tiny.toml"


@pytest.mark.ray
def test_the_same_seed_leads_to_the_same_model_on_both_engines(tmp_path: Path) -> None:
    checkpoints, figures = {}, {}
    for engine in ("inprocess", "ray"):
        out = tmp_path / engine
        arguments = ["run", str(TINY), "--out", str(out), "--seed", "4", "--engine", engine]
        assert run_command(arguments) == 0
        checkpoints[engine] = out / "checkpoints" / f"{Ledger(out / 'ledger.db').served_model()}.safetensors"
        results = json.loads((out / "results.json").read_text())
        assert (results["engine"], results["complete"]) == (engine, True)
        figures[engine] = [(request["id"], request["status"], request["after"]) for request in results["requests"]]
    assert checkpoints["inprocess"].name == checkpoints["ray"].name
    first, second = (load_file(path) for path in checkpoints.values())
    assert {name: value.tobytes() for name, value in first.items()} == {
        name: value.tobytes() for name, value in second.items()
    }
    assert figures["inprocess"] == figures["ray"]
    assert [(name, status) for name, status, _ in figures["ray"]] == [("r1", "committed")]
