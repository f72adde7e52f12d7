import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from altair import load_schema
from sample_charts import COMMITTED, FULL, many, views
from sample_results import SAMPLES

from fed_unlearn.audits.base import Figures
from fed_unlearn.simulations.report.charts import Chart, charts_of
from fed_unlearn.simulations.report.figures import svg_of
from fed_unlearn.simulations.run.results import RunResults

HOSTILE = '"]) || alert(1) //</script>\u202e\x1b[31m' + "x" * 300
OURS = {"number", "place", "across", "along"}
"""Numbers of rows that say an order, and are not measured."""


def chart_named(results: RunResults, name: str) -> Chart:
    return next(chart for chart in charts_of(results) if chart.name == name)


def rows_of(chart: Chart) -> Mapping[str, list[dict[str, Any]]]:
    datasets: Any = chart.spec["datasets"]
    return {name: rows for name, rows in datasets.items() if name != "diagonal"}


def strings_in(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from strings_in(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings_in(item, path)


def numbers_in(value: object) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def test_charts_come_in_the_order_of_the_report() -> None:
    assert [chart.name for chart in charts_of(FULL)] == [
        "timeline", "requests", "relapse", "destinations-r1", "projection-r1", "membership-r1", "cost",
    ]  # fmt: skip


def test_a_run_that_has_measured_nothing_has_no_charts() -> None:
    nothing = RunResults(scenario="digits", seed=0, engine="inprocess")
    assert charts_of(nothing) == []
    waiting = replace(SAMPLES, status="received", before=None, after=None, passes=0)
    assert charts_of(replace(nothing, requests=(waiting,))) == []


@pytest.mark.parametrize("results", [FULL, many()], ids=["few", "many"])
def test_wide_and_narrow_charts_share_their_rows(results: RunResults) -> None:
    for chart in charts_of(results):
        assert chart.spec["datasets"] == chart.narrow_spec["datasets"]
        assert chart.alternative and 1 <= chart.caption.count(". ") + 1 <= 4


@pytest.mark.slow
def test_specifications_obey_the_schema_of_vega_lite() -> None:
    schema = load_schema()
    for chart in charts_of(FULL):
        for spec in (chart.spec, chart.narrow_spec):
            # the version of Vega-Lite that altair draws for
            jsonschema.validate({**spec, "datasets": {}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**spec, "columns": "two"}, schema)


def test_every_number_of_the_rows_stands_in_the_results(tmp_path: Path) -> None:
    FULL.save(tmp_path)
    known = set(numbers_in(json.loads((tmp_path / "results.json").read_text())))
    for chart in charts_of(FULL):
        for row in (row for rows in rows_of(chart).values() for row in rows):
            assert {value for key, value in row.items() if key not in OURS and value in numbers_in([value])} <= known


def test_accuracies_and_intervals_are_those_of_the_models(tmp_path: Path) -> None:
    FULL.save(tmp_path)
    stored = json.loads((tmp_path / "results.json").read_text())
    rows = rows_of(chart_named(FULL, "requests"))
    for key in ("forget_accuracy", "retain_accuracy", "test_forget_accuracy", "test_retain_accuracy"):
        expected = {
            (request["id"], model): (request[model][key], *request[model].get("intervals", {}).get(key, (None, None)))
            for request in stored["requests"]
            for model in ("before", "unlearned", "after", "oracle")
            if request[model] and request[model][key] is not None
        }
        found = {
            (row["request"], row["model"]): (row["accuracy"], row.get("low"), row.get("high")) for row in rows[key]
        }
        assert found == expected
    assert [row["words"] for row in rows["test_forget_accuracy missing"]] == ["does not apply"]


def test_the_timeline_shows_the_jump_of_the_forgotten_classes() -> None:
    rows = rows_of(chart_named(FULL, "timeline"))
    assert rows["jumps"] == [{"round": 32, "before": 0.97, "after": 0.01}]
    assert [row["request"] for row in rows["requests"]] == ["r1"]
    assert [(row["request"], row["outcome"]) for row in rows["without"]] == [("r2", "failed")]


def test_outcomes_differ_in_colour_and_in_dash() -> None:
    drawn: Any = chart_named(many(), "timeline").spec["vconcat"]
    (poles, *_) = drawn[1]["layer"]
    for channel in ("color", "strokeDash"):
        scale = poles["encoding"][channel]["scale"]
        assert scale["domain"] == ["committed", "failed"]
        assert scale["range"][0] != scale["range"][1]
    shown = rows_of(chart_named(many(), "timeline"))
    assert {row["outcome"] for row in shown["without"]} == {"rejected", "not ended"}
    assert len(shown["requests"]) + len(shown["without"]) == 30


def test_every_block_of_a_relapse_matrix_holds_its_own_cells_alone() -> None:
    results = many()
    chart = chart_named(results, "relapse")
    cells = rows_of(chart)["cells"]
    expected = {(row.after, name): value for row in results.relapse for name, value in row.forget_accuracy.items()}
    assert {(cell["event"], cell["request"]): cell["accuracy"] for cell in cells} == expected
    assert {(cell["event"], cell["request"]) for cell in cells if cell["relapsed"]} == {
        (row.after, name) for row in results.relapse for name in row.relapsed
    }
    for spec in (chart.spec, chart.narrow_spec):
        blocks: Any = spec["vconcat"]
        ranges = [layer["transform"][-1]["filter"]["range"] for block in blocks for layer in block["layer"][:1]]
        covered = [place for low, high in ranges for place in range(low, high + 1)]
        assert covered == sorted({cell["place"] for cell in cells})


def test_requests_without_a_bound_are_marked_in_the_relapse_matrix() -> None:
    client = replace(SAMPLES, scope="client", target={"client": "4"})
    chart = chart_named(replace(FULL, requests=(COMMITTED, client)), "relapse")
    assert {cell["request"] for cell in rows_of(chart)["cells"]} == {"r1", "r2*"} and "*" in chart.caption
    assert "*" not in chart_named(FULL, "relapse").caption


def test_images_of_many_classes_are_shown_for_the_fullest_classes() -> None:
    labels = tuple(f"class {index}" for index in range(100))
    counts = tuple(index if index >= 50 else 0 for index in range(100))
    seen = views()
    assert seen.destinations is not None
    crowded = replace(seen.destinations, labels=labels, before=counts, after=counts, oracle=None)
    request = replace(COMMITTED, views=replace(seen, destinations=crowded, projection=None))
    chart = chart_named(replace(FULL, requests=(request,)), "destinations-r1")
    rows = rows_of(chart)
    assert set(rows) == {"before", "after"} and len(rows["after"]) == 24
    assert {row["class"] for row in rows["after"]} >= {"* class 3", "class 99", "class 77"}
    assert "left out" in chart.caption


def test_panels_of_a_projection_have_the_same_axes_of_the_same_length() -> None:
    panels: Any = chart_named(FULL, "projection-r1").spec["concat"]
    domains = [[panel["layer"][0]["encoding"][axis]["scale"]["domain"] for axis in "xy"] for panel in panels]
    assert len(domains) == 3 and domains[0] == domains[1] == domains[2]
    ((left, right), (low, high)) = domains[0]
    assert right - left == pytest.approx(high - low)
    rows = rows_of(chart_named(FULL, "projection-r1"))
    for row in (row for model in ("before", "after", "oracle") for row in rows[model]):
        assert left < row["x"] < right and low < row["y"] < high
        assert (row["kind"] == "forgotten class") == (row["class"] == "fish")
    for model in ("before", "after", "oracle"):
        for name in rows[f"{model} names"]:
            own = [row for row in rows[model] if row["class"] == name["class"]]
            assert name["across"] == pytest.approx(sum(row["x"] for row in own) / len(own), abs=1e-3)
            assert low < name["along"] < high


def test_a_legend_of_curves_tells_their_area() -> None:
    rows = rows_of(chart_named(FULL, "membership-r1"))["curves"]
    areas = {(row["model"], row["area"]) for row in rows}
    assert areas == {("before, AUC 0.710", 0.71), ("after, AUC 0.530", 0.53), ("oracle, AUC 0.490", 0.49)}


def test_parts_of_the_cost_make_up_the_passes_and_stand_beside_those_of_the_oracle() -> None:
    rows = rows_of(chart_named(FULL, "cost"))
    assert [(row["part"], row["passes"]) for row in rows["parts"]] == [
        ("unlearn", 101), ("repair", 61), ("audit", 43), ("other", 77),
    ]  # fmt: skip
    assert [(row["request"], row["side"], row["passes"]) for row in rows["totals"]] == [
        ("r1", "request", 205), ("r1", "oracle", 5000), ("r2", "request", 77),
    ]  # fmt: skip


def hostile_results() -> RunResults:
    seen = views()
    assert seen.destinations is not None and seen.projection is not None
    labels = (HOSTILE, HOSTILE, "bird", HOSTILE)
    seen = replace(
        seen,
        destinations=replace(seen.destinations, labels=labels),
        projection=replace(seen.projection, labels=labels),
    )
    first = replace(COMMITTED, id=HOSTILE, method=HOSTILE, labels=(HOSTILE,), views=seen)
    others = (replace(SAMPLES, id=f"{HOSTILE}2", target={"client": HOSTILE}, passes=5),)
    events = tuple(replace(point, event=HOSTILE if point.event == "r1" else point.event) for point in FULL.history)
    rows = tuple(
        replace(row, after=HOSTILE, test_forget_accuracy={HOSTILE: 0.5}, relapsed=(HOSTILE,)) for row in FULL.relapse
    )
    return replace(FULL, scenario=HOSTILE, requests=(first, *others), history=events, relapse=rows)


def test_text_of_users_is_printable_short_and_in_no_expression() -> None:
    charts = charts_of(hostile_results())
    assert len(charts) == 7
    for chart in charts:
        for path, text in (*strings_in(chart.spec), *strings_in(chart.narrow_spec)):
            assert text.isprintable() and (len(text) < 100 or path[-1] == "calculate")
            if "alert" in text:
                assert path[0] == "datasets" or "domain" in path or "range" in path, path
        assert (chart.title + chart.caption + chart.alternative).isprintable()
        assert re.fullmatch(r"[a-z0-9._-]{1,80}", chart.name)


def test_requests_that_print_alike_keep_rows_of_their_own() -> None:
    results = hostile_results()
    for name, key in (("timeline", "without"), ("cost", "totals")):
        rows = rows_of(chart_named(results, name))
        texts = {row["request"] for row in (*rows[key], *rows.get("requests", ()))}
        assert len(texts) == 2 and all(len(text) <= 16 for text in texts)
    classes = {row["class"] for rows in rows_of(charts_of(results)[3]).values() for row in rows}
    assert len(classes) == 4


def test_names_of_files_differ_whatever_the_ids_are() -> None:
    ids = ("r1", "R1", "r.1", "../r1", "r1.2", "é", "", "a/b", "a\\b", "con", "x" * 500)
    requests = tuple(replace(COMMITTED, id=name) for name in ids)
    names = [chart.name for chart in charts_of(replace(FULL, requests=requests, relapse=(), history=()))]
    assert len({name.casefold() for name in names}) == len(names) == 3 * len(ids) + 2
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,70}", name) for name in names)
    assert {"membership-r1", "projection-con"} <= set(names)


def test_the_package_is_light_until_charts_are_drawn() -> None:
    code = (
        "import sys, fed_unlearn.simulations.report.charts, fed_unlearn.simulations.report.figures\n"
        "print({'altair', 'vl_convert', 'matplotlib', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: FULL, many, hostile_results], ids=["few", "many", "hostile"])
def test_pictures_keep_to_their_width_and_refer_to_nothing_outside(make: Any) -> None:
    for chart in charts_of(make()):
        for narrow, most in ((False, 720), (True, 320)):
            picture = svg_of(chart, narrow=narrow)
            root = ElementTree.fromstring(picture)
            assert float(root.attrib["width"]) <= most, (chart.name, narrow)
            links = {value for node in root.iter() for key, value in node.attrib.items() if key.endswith("href")}
            assert all(link.startswith("#") for link in links)
            sizes = re.findall(r'font-size="(\d+)px"', picture)
            assert sizes and min(map(int, sizes)) >= 11


def test_a_model_without_an_area_is_said_to_have_none() -> None:
    assert COMMITTED.after is not None
    unknown = Figures(**{**vars(COMMITTED.after), "membership_auc": None})
    chart = chart_named(replace(FULL, requests=(replace(COMMITTED, after=unknown),)), "membership-r1")
    assert "at its end not measured" in chart.alternative


def test_other_requests_fade_where_the_page_has_chosen_one() -> None:
    chart = chart_named(FULL, "requests")
    chosen = replace(chart, spec={**chart.spec, "params": [{"name": "chosen", "value": 1}]})
    faint = 'opacity="0.125"'
    own = len([row for rows in rows_of(chart).values() for row in rows if row["request"] == "r1" and "model" in row])
    spans = len([row for rows in rows_of(chart).values() for row in rows if row["request"] == "r1" and "low" in row])
    assert svg_of(chosen).count(faint) == own + spans and faint not in svg_of(chart)
