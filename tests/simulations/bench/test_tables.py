"""The tables of a comparison fit a terminal, whatever they hold, and the figure its page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.image import imread
from rich.console import Console

from fed_unlearn.audits.measured import Measured
from fed_unlearn.methods import available
from fed_unlearn.simulations.bench.audited import AuditCost, RowAudits, RowFigure
from fed_unlearn.simulations.bench.figure import write_method_figure
from fed_unlearn.simulations.bench.full_table import full_table, write_full_table
from fed_unlearn.simulations.bench.results import MethodBenchReport, MethodRow
from fed_unlearn.simulations.bench.table import print_bench


def crowded_report() -> MethodBenchReport:
    names = [name for name in available() if name != "mask-output"]
    cost = {"seconds": 12.5, "forward_passes": 1_234_567, "backward_passes": 45_000, "steps": 2000}
    rows = [MethodRow(method="original", forget_accuracy=0.9, retain_accuracy=0.9, test_retain_accuracy=0.86)]
    for number, name in enumerate(names):
        for suffix in ("", " + guarded repair"):
            rows.append(
                MethodRow(
                    method=name + suffix,
                    forget_accuracy=0.001 * number,
                    retain_accuracy=0.9,
                    test_forget_accuracy=0.0,
                    test_retain_accuracy=0.85 + 0.001 * number,
                    membership_auc=0.5,
                    membership_auc_interval=(0.45, 0.55),
                    converged=True,
                    **cost,  # type: ignore[arg-type]
                )
            )
    rows.append(MethodRow(method="bad-luck", error="bad-luck: the loss is nan"))
    data = {"forget_samples": 4500, "forget_classes": [4], "class_names": ["a", "b", "c", "d", "deer"]}
    return MethodBenchReport(rows=tuple(rows), scope="class", seed=0, threads=1, device="cpu", data=data)


def test_the_table_fits_80_columns_with_every_name_unbroken(capsys: pytest.CaptureFixture[str]) -> None:
    report = crowded_report()
    print_bench(report, Path("out"), Console(width=80))
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].strip() == "4500 samples to forget, class 4 (deer); seed 0"
    for row in report.rows:
        name = "+ guarded repair" if row.is_repaired else row.method
        assert any(line.startswith(f"{name} ") for line in lines), name
    assert "1.32M" in printed and "12.50" in printed and ".45-.55" in printed and "…" not in printed
    assert "bad-luck failed: bad-luck: the loss is nan" in lines


def test_a_crowded_figure_stays_inside_its_page(tmp_path: Path) -> None:
    written = write_method_figure(crowded_report(), tmp_path / "figures")
    assert written is not None
    pixels = imread(written)[..., :3]
    edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    assert all((edge == 1).all() for edge in edges)


def test_without_figures_there_is_nothing_to_draw(tmp_path: Path) -> None:
    report = MethodBenchReport(scope="class", seed=0, threads=1, device="cpu")
    assert write_method_figure(report, tmp_path / "figures") is None and not (tmp_path / "figures").exists()


FIGURES = {
    "forget_accuracy": "splits",
    "logit_auc": "logit_ranking",
    "recall_at_5": "logit_ranking",
    "probe_accuracy": "probe_accuracy",
    "relearn_ratio": "relearning",
    "membership_auc": "population_attack",
}


def audits(value: float, error: str | None = None) -> RowAudits:
    figures = {
        name: RowFigure(audit=audit, measured=Measured(value, (value - 0.01, value + 0.01)))
        for name, audit in FIGURES.items()
    }
    cost = AuditCost(forward_passes=45_000, backward_passes=998, seconds=2.5)
    return RowAudits(figures=figures, costs={"relearning": cost, "broken": AuditCost(error=error)})


def judged_report(oracles: int = 3) -> MethodBenchReport:
    """The crowded report with oracles near 0.85; all other models are at 0.95."""
    report = crowded_report()
    broken = "broken: no layer puts out the logits"
    rows = [row if row.error else replace(row, audits=audits(0.95, broken)) for row in report.rows]
    names = ["oracle"] if oracles == 1 else [f"oracle {number}" for number in range(1, oracles + 1)]
    theirs = [
        replace(rows[1], method=name, converged=None, audits=audits(0.84 + 0.01 * number), from_cache=True)
        for number, name in enumerate(names)
    ]
    return replace(report, rows=tuple(row.beside(theirs) for row in [*rows, *theirs]))


def test_the_short_table_with_audits_and_verdicts_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    report = judged_report()
    print_bench(report, Path("out"), Console(width=80))
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert max(len(line) for line in lines if not line.startswith(("audit", "3 oracles"))) <= 80
    for row in report.rows:
        name = "+ guarded repair" if row.is_repaired else row.method
        start = name if len(name) <= 20 else name[: name.rindex("-", 0, 20) + 1]
        assert any(line.startswith(f"{start} ") for line in lines), name
    assert all(word in printed for word in ("logit", "probe", "relearn", "attack", "outside", "6/6", "5/5"))
    assert "0.950↑" in printed and "0.500↑" in printed and "12.50*" in printed and "…" not in printed
    assert "3 oracles: each, left out and judged by the others, has 0 of 18 figures outside in all (0.0 %)" in lines
    models = sum(row.audits is not None and not row.is_oracle for row in report.rows)
    assert f"audit broken failed for {models} models: broken: no layer puts out the logits" in lines


@pytest.mark.parametrize(
    ("oracles", "said"),
    [
        (0, "no oracle: a verdict needs 2, and a claim 3 or more (--oracles N)"),
        (1, "1 oracle: a verdict needs 2, and a claim 3 or more (--oracles N)"),
        (
            2,  # t of one degree of freedom is 12.706, times sqrt(1.5)
            "2 oracles: too few for a claim, which needs 3 or more. Their interval reaches 15.6 standard deviations to"
            " each side: that a figure is inside says nothing",
        ),
    ],
)
def test_fewer_oracles_than_a_claim_needs_are_said_to_be_few(
    oracles: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_bench(judged_report(oracles), Path("out"), Console(width=200))
    printed = capsys.readouterr().out
    assert said in printed.splitlines()
    assert f"{said[0].upper()}{said[1:]}." in full_table(judged_report(oracles))
    assert ("0/6" in printed) is (oracles == 2)


def test_the_full_table_holds_every_figure_of_every_model_by_audit(tmp_path: Path) -> None:
    report = judged_report()
    text = write_full_table(report, tmp_path).read_text(encoding="utf-8")
    assert text == full_table(report) + "\n"
    sections = text.split("\n## ")
    assert [section.partition("\n")[0] for section in sections[1:]] == [
        *dict.fromkeys(FIGURES.values()), "broken", "Fingerprint test", "Outside",
    ]  # fmt: skip
    ranking = next(section for section in sections if section.startswith("logit_ranking")).splitlines()
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in ranking if "|" in line
    }
    assert rows["model"] == ["logit_auc", "recall_at_5"]
    assert rows["delete"] == ["0.950↑ (0.940 to 0.960)"] * 2 and rows["oracle 2"] == ["0.850 (0.840 to 0.860)"] * 2
    assert rows["one more oracle"] == ["0.800 to 0.900"] * 2
    assert set(rows) >= {row.method for row in report.rows if row.audits is not None}
    assert "45.0k samples forward, 998 backward beside reading, and 2.50 s a model" in text
    assert "Failed for delete: broken: no layer puts out the logits" in text


def test_the_full_table_is_printed_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    report = replace(judged_report(), settings={"table": "full"})
    print_bench(report, Path("out"), Console(width=80))
    printed = capsys.readouterr().out
    assert printed.startswith(full_table(report)) and "results in out" in printed


def test_several_oracles_are_named_once_in_the_figure(tmp_path: Path) -> None:
    assert write_method_figure(judged_report(), tmp_path) is not None
