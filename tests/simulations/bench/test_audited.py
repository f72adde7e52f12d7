"""Verdicts on rows whose figures are known, and how flags are counted by figure and by audit."""

from __future__ import annotations

import json
from pathlib import Path

from fed_unlearn.audits.measured import Measured
from fed_unlearn.simulations.bench.audited import AuditCost, Outside, RowAudits, RowFigure
from fed_unlearn.simulations.bench.results import MethodBenchReport, MethodRow


def row(name: str, logit_auc: float, recall: float, probe: float) -> MethodRow:
    figures = {
        "logit_auc": RowFigure(audit="ranking", measured=Measured(logit_auc, (logit_auc - 0.005, logit_auc + 0.005))),
        "recall": RowFigure(audit="ranking", measured=Measured(recall)),
        "probe": RowFigure(audit="probe", measured=Measured(probe)),
    }
    return MethodRow(method=name, audits=RowAudits(figures=figures, costs={"probe": AuditCost(seconds=1.5)}))


ORACLES = [row(f"oracle {n}", 0.85 + 0.01 * n, 0.3 + 0.02 * n, 0.84 + 0.005 * n) for n in (1, 2, 3)]
HIDDEN = row("mask-output", 0.99, 0.95, 0.851)


def test_flags_are_counted_by_figure_and_by_audit() -> None:
    """Of 0.86 to 0.88 the interval ends at 0.92, of 0.32 to 0.36 at 0.44, and of 0.845 to 0.855 at 0.875."""
    judged = HIDDEN.beside(ORACLES).audits
    assert judged is not None
    assert judged.outside == Outside(figures=2, judged_figures=3, audits=1, judged_audits=2)
    assert [figure.is_outside for figure in judged.figures.values()] == [True, True, False]


def test_an_oracle_is_judged_by_the_others_alone() -> None:
    judged = ORACLES[0].beside(ORACLES).audits
    assert judged is not None
    assert {figure.judgement.oracles for figure in judged.figures.values() if figure.judgement is not None} == {2}
    alone = ORACLES[0].beside(ORACLES[:2]).audits
    assert alone is not None and alone.outside is None and alone.fingerprint is None


def test_a_report_says_how_many_figures_of_left_out_oracles_are_outside(tmp_path: Path) -> None:
    """The third oracle lies outside of two that nearly agree: 0.1 from them, where 12.7 * 1.22 * 0.0007 = 0.011."""
    oracles = [row("oracle 1", 0.86, 0.3, 0.84), row("oracle 2", 0.861, 0.4, 0.841), row("oracle 3", 0.86, 0.35, 0.95)]
    rows = [HIDDEN, *(each.beside(oracles) for each in oracles)]
    report = MethodBenchReport(rows=rows, scope="class", seed=0, threads=1, device="cpu")
    assert report.left_out is not None
    assert (report.left_out.figures, report.left_out.judged_figures) == (1, 9)
    report.save(tmp_path)
    body = json.loads((tmp_path / "bench.json").read_text())
    assert body["left_out_oracles"]["figures"] == 1
    assert body["rows"][3]["audits"]["probe"]["verdict"] == "above"
    assert "verdict" not in body["rows"][0]["audits"]["probe"] and "fingerprint" not in body["rows"][0]


def test_a_row_in_json_holds_figures_intervals_verdicts_and_costs() -> None:
    body = HIDDEN.beside(ORACLES).to_json()
    assert isinstance(body["audits"], dict) and isinstance(body["audit_costs"], dict)
    figure = body["audits"]["logit_auc"]
    assert (figure["audit"], figure["value"], figure["interval"], figure["verdict"]) == (
        "ranking", 0.99, [0.985, 0.995], "above",
    )  # fmt: skip
    assert figure["predicted"][1] < figure["allowed"][1] < 0.93
    assert body["audit_costs"]["probe"]["seconds"] == 1.5
    assert body["outside"] == {"figures": 2, "judged_figures": 3, "audits": 1, "judged_audits": 2}
    assert "from_cache" not in body and "extra" not in body
