"""``--anonymous`` on Ray: the app writes the log in a process of its own, and the terminal has what that one prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.scenario import load_scenario

TINY = Path(__file__).parents[2] / "support" / "tiny.toml"
NAMED = re.compile(r"""\b(?:client|holder)s?(?:["']?[ =:/]+["']?)\d+|\bclients/\d+""")
"""A client by its name, which is a number here."""


def names_in(text: str) -> list[str]:
    return NAMED.findall(text)


@pytest.mark.ray
def test_a_run_on_ray_names_no_client(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One client leaves, and one fails from the beginning, with an error whose text has its name."""
    file, out = tmp_path / "scenario.toml", tmp_path / "run"
    leaving = "\n[[timeline]]\nforget = { client = 2 }\n"
    file.write_text(TINY.read_text().replace("count = 2", "count = 3").replace("rounds = 4", "rounds = 2") + leaving)
    (out / "clients").mkdir(parents=True)
    (out / "clients" / "1").write_text("in the way of the client's store")
    (out / "scenario.toml").write_text(load_scenario(str(file), ["reporting.anonymous=true"]).to_toml())
    run_command(["run", str(file), "--engine", "ray", "--anonymous", "--out", str(out)])
    said = "".join(capfd.readouterr())
    assert "client request: client C" in said and "clients/B'" in said, said
    assert names_in(said) == []
    written = [out / "report.html", out / "log.txt", out / "superlink.log", *(out / "figures").glob("*.svg")]
    assert len(written) > 5
    assert {path.name: found for path in written if (found := names_in(path.read_text(errors="replace")))} == {}
    assert "client C" in (out / "log.txt").read_text() and "client C" in (out / "report.html").read_text()
    assert names_in((out / "results.json").read_text()), "the search finds names where there are some"
