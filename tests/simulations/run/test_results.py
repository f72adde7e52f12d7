import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from sample_results import REQUEST, RESULTS, SAMPLES

from fed_unlearn.gate import GateCheck
from fed_unlearn.simulations.report.table import (
    pass_lines,
    plain_lines,
    print_results,
    relapse_lines,
    target_words,
)
from fed_unlearn.simulations.run.ledger_facts import LedgerFacts
from fed_unlearn.simulations.run.results import RelapseResult, ResultsError, RunResults
from fed_unlearn.simulations.run.views.view_results import DestinationView, ProjectionView, RequestViews


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    RESULTS.save(tmp_path)
    assert RunResults.load(tmp_path) == RESULTS
    later = replace(RESULTS, requests=(REQUEST,))
    later.save(tmp_path)
    assert RunResults.load(tmp_path) == later
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_the_file_has_the_documented_keys(tmp_path: Path) -> None:
    RESULTS.save(tmp_path)
    body = json.loads((tmp_path / "results.json").read_text())
    assert {"scenario", "seed", "engine", "versions", "training", "requests", "relapse"} <= set(body)
    assert set(body["training"]) == {
        *("rounds", "seconds", "test_accuracy", "forward_passes", "backward_passes"),
        *("clients", "trained_clients", "never_trained"),
    }
    documented = (
        "id scope target method status attempts reason before unlearned as_trained after oracle seconds oracle_seconds speedup"
        " passes passes_by_part oracle_passes pass_ratio messages bytes_sent bytes_received witnesses evidence goal labels"
    )
    assert set(body["requests"][0]) == set(documented.split())
    assert (body["requests"][0]["speedup"], body["requests"][0]["pass_ratio"]) == (20.0, 25.0)
    assert (body["requests"][1]["speedup"], body["requests"][1]["oracle"]) == (None, None)
    assert body["relapse"][0] == {
        "after": "r1",
        "forget_accuracy": {"r1": 0.0},
        "test_forget_accuracy": {"r1": 0.01},
        "relapsed": [],
    }


def test_what_says_nothing_is_left_out_and_the_rest_is_read_back(tmp_path: Path) -> None:
    curve = ((0.0, 0.0), (0.25, 0.5), (1.0, 1.0))
    full = replace(
        REQUEST,
        after=replace(REQUEST.after, curves={"membership_auc": curve}),  # type: ignore[type-var]
        submitted=1.5,
        ended=2.5,
        model_before="a" * 64,
        model_after="b" * 64,
        checks=(GateCheck(figure="logit_auc", value=0.5, interval=(0.25, 0.75), maximum=0.5, passed=True),),
        owed=("4",),
        left_out=("5", "6"),
        views=RequestViews(
            destinations=DestinationView(labels=("x", "y"), before=(4, 1), after=(0, 5)),
            projection=ProjectionView(classes=(0,), labels=("x", "y"), explained=0.5, before=((0.5, -1.0),)),
        ),
    )
    facts = LedgerFacts(identity="9b2f", events=12, head="c" * 64)
    results = replace(RESULTS, requests=(full, SAMPLES), ledger=facts, served_model="b" * 64)
    results.save(tmp_path)
    assert RunResults.load(tmp_path) == results
    first, second = json.loads((tmp_path / "results.json").read_text())["requests"]
    added = {"submitted", "ended", "model_before", "model_after", "checks", "owed", "left_out", "views"}
    assert set(first) - set(second) == added
    assert first["after"]["curves"] == {"membership_auc": [list(corner) for corner in curve]}


def test_figures_of_other_packages_audits_are_there_by_name(tmp_path: Path) -> None:
    RESULTS.save(tmp_path)
    assert "extra" not in (tmp_path / "results.json").read_text()
    with_audit = replace(REQUEST, after=replace(REQUEST.after, extra={"mean-confidence": 0.125}))  # type: ignore[type-var]
    more = replace(RESULTS, requests=(with_audit, SAMPLES))
    more.save(tmp_path)
    assert RunResults.load(tmp_path) == more
    assert "mean-confidence - -> 0.125 (oracle -)" in plain_lines(more)[1]
    console = Console(width=90, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_results(more, console)
    text = console.export_text()
    assert "confidence" in text and "0.125" in text


def test_tables_say_what_passes_were_for_and_results_of_before_have_no_parts(tmp_path: Path) -> None:
    parts = {"unlearn": 60, "repair": 1040, "audit": 100}
    results = replace(RESULTS, requests=(replace(REQUEST, passes=1200, passes_by_part=parts), SAMPLES))
    results.save(tmp_path)
    assert RunResults.load(tmp_path) == results
    told = "1,200 sample passes: unlearn 60, repair 1,040, audit 100"
    assert pass_lines(results) == [f"r1: {told}"] and told in plain_lines(results)[1]
    body = json.loads((tmp_path / "results.json").read_text())
    for request in body["requests"]:
        del request["passes_by_part"]
    (tmp_path / "results.json").write_text(json.dumps(body))
    assert pass_lines(RunResults.load(tmp_path)) == []


def test_of_built_in_audits_tables_show_the_logit_auc_and_the_file_holds_all(tmp_path: Path) -> None:
    values = {"logit_auc": 0.875, "recall_at_5": 0.625, "confidence_gap": -0.125, "destination_top": 0.5}
    figures = replace(REQUEST.after, extra=values, intervals={"logit_auc": (0.75, 0.9375)})  # type: ignore[type-var]
    more = replace(RESULTS, requests=(replace(REQUEST, after=figures, oracle=figures), SAMPLES))
    more.save(tmp_path)
    body = json.loads((tmp_path / "results.json").read_text())["requests"][0]["after"]
    assert (body["extra"], body["intervals"]) == (values, {"logit_auc": [0.75, 0.9375]})
    assert RunResults.load(tmp_path) == more
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_results(more, console)
    text = console.export_text()
    assert text.count("0.875") == 2 and "0.625" not in text and max(map(len, text.splitlines())) <= 80
    assert "logit_auc - -> 0.875 (oracle 0.875)" in plain_lines(more)[1] and "recall" not in plain_lines(more)[1]


def test_only_a_complete_run_without_failures_is_all_committed() -> None:
    assert not RESULTS.all_committed
    committed = replace(RESULTS, requests=(REQUEST,))
    assert committed.all_committed
    assert not replace(committed, complete=False).all_committed


def test_folders_without_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"holds no results\.json"):
        RunResults.load(tmp_path)
    (tmp_path / "results.json").write_text('{"scenario": "x"}')
    with pytest.raises(ResultsError, match="not the results of this version of fed_unlearn: field 'seed' is missing"):
        RunResults.load(tmp_path)
    with pytest.raises(ResultsError, match="nowhere: does not exist; the folder of a run was expected"):
        RunResults.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (None, "", "results.json: is empty"),
        (None, '{"scenario": \n"x",', "is damaged: it is no JSON from line 2, column"),
        (None, "[" * 200_000, "is damaged: it is nested too deeply"),
        (None, "[]", "a field holds something else than expected"),
        (
            '"forget_accuracy": 1.0',
            '"forget_accuracy": NaN',
            "'requests[0].before.forget_accuracy' is no finite number",
        ),
        ('"seconds": 9.1', '"seconds": 1e999', "'training.seconds' is no finite number"),
        ('"rounds": 30', '"rounds": 1' + "0" * 400, "'training.rounds' is no finite number"),
        ('"rounds": 30', '"rounds": 1' + "0" * 5000, "has a number that is too long"),
        ('"method": "boundary-shrink",', "", "field 'method' is missing"),
        ('"method": "boundary-shrink",', '"methods": 1, "method": "x",', "field 'methods' is unknown"),
        ('"requests": [', '"requests": null, "asked": [', "a field holds something else than expected"),
        ('"relapse": [', '"relapse": [[],', "a field holds something else than expected"),
    ],
)
def test_a_damaged_file_is_told_in_plain_words(tmp_path: Path, old: str | None, new: str, told: str) -> None:
    RESULTS.save(tmp_path)
    path = tmp_path / "results.json"
    text = path.read_text()
    path.write_text(new if old is None else text.replace(old, new, 1))
    assert path.read_text() != text
    with pytest.raises(ResultsError) as raised:
        RunResults.load(tmp_path)
    line = str(raised.value)
    assert line.startswith(f"{path}: ") and told in line
    assert "Error(" not in line and "__init__" not in line and line.isprintable()


def test_the_closing_table_fits_eighty_columns_and_shows_every_figure() -> None:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_results(RESULTS, console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    for word in ("r1 class 3", "boundary-shrink", "20.0x faster", "25.0x fewer passes", "failed, 2 attempts", "0.930"):
        assert word in text
    assert "r2 failed: forget accuracy 0.250 is above 0" in text
    assert "relapse of r1: at most 0.050 of its test samples after r2" in text
    assert "relapse of r2: at most 0.500 of its forget samples after train:2" in text


def test_figures_of_audits_that_have_no_room_stand_in_a_table_of_their_own() -> None:
    assert REQUEST.after is not None
    after = replace(REQUEST.after, extra={"logit_auc": 0.875, "backdoor_success": 0.125, "of_another_package": 0.375})
    results = replace(RESULTS, requests=(replace(REQUEST, after=after), *RESULTS.requests[1:]))
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_results(results, console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    for word in ("r1 class 3", "20.0x faster", "0.875", "0.375", "another", "audits"):
        assert word in text


def test_plain_lines_have_one_line_a_request() -> None:
    lines = plain_lines(RESULTS)
    assert lines[0] == "training: 30 rounds in 9.1 s, test accuracy 0.970"
    assert lines[1].startswith("r1 class 3 by boundary-shrink: committed; forget 1.000 -> 0.000 (oracle 0.000); retain")
    assert lines[1].endswith("0.50 s, 20.0x faster, 25.0x fewer passes, 1 attempt")
    assert lines[2].endswith("1.00 s, 2 attempts; forget accuracy 0.250 is above 0")
    slow = replace(REQUEST, seconds=25.0, passes=4 * (REQUEST.oracle_passes or 0))
    assert plain_lines(replace(RESULTS, requests=(slow,)))[1].endswith(
        "25.00 s, 2.5x slower, 4.0x more passes, 1 attempt"
    )
    assert target_words(replace(SAMPLES, target={"client": "2", "sample_ids": ["9"]})) == "1 sample of client 2"


def test_the_table_says_what_was_asked_and_how_forgetting_is_known() -> None:
    """Eight samples that had to look unseen are no failure at accuracy 1, and neither is a client."""
    unseen = replace(
        SAMPLES, status="committed", reason=None, goal="indistinguishable", evidence="not measurable", attempts=1
    )
    client = replace(unseen, id="r1", scope="client", target={"client": "2"}, goal=None, evidence="by construction")
    results = replace(RESULTS, requests=(client, unseen))
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_results(results, console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    for word in ("to look unseen", "not measurable", "by construction"):
        assert word in text
    lines = plain_lines(results)
    assert lines[2].startswith("r2 4 samples of client 4, to look unseen, by instance-wise: committed, not measurable;")
    assert not any(line.startswith("relapse of") for line in lines)
    assert any(line.startswith("r2 later: at most 0.500 of its forget samples right") for line in lines)


def test_a_request_that_has_worn_off_is_named_until_it_is_committed_again() -> None:
    worn = RelapseResult(after="train:2", forget_accuracy={}, test_forget_accuracy={"r1": 0.5}, relapsed=("r1",))
    later = RelapseResult(after="r2+r1", forget_accuracy={}, test_forget_accuracy={"r1": 0.0})
    said = "r1 has worn off: after train:2 the gate would refuse it"
    assert said in relapse_lines(replace(RESULTS, relapse=(worn,)))
    assert said not in relapse_lines(replace(RESULTS, relapse=(worn, later)))


def test_relapse_that_nobody_could_audit_is_said(tmp_path: Path) -> None:
    results = replace(RESULTS, relapse_due=("train:2",))
    results.save(tmp_path)
    assert RunResults.load(tmp_path) == results
    assert "relapse after train:2: not audited, since no client answered" in relapse_lines(results)
