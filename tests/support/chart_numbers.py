"""Whether the data of a report's charts, and the numbers in their words, are those of ``results.json``.

All is worked out again from the JSON, without the code that draws.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from decimal import ROUND_HALF_UP, Decimal
from statistics import fmean
from typing import Any

import pytest
from page_reader import Element, Page

Rows = list[dict[str, Any]]
_ACCURACIES = ("forget_accuracy", "retain_accuracy", "test_forget_accuracy", "test_retain_accuracy")
_SHARES = re.compile(r"(-?[\d,.]+) %")


def charts_in(page: Page) -> Iterator[tuple[Element, Element, dict[str, Any]]]:
    """Every chart: its figure, its image, and the specifications that its script reads."""
    for figure in page.all("figure"):
        inside = [item for item in page.elements if item.within(lambda one, figure=figure: one is figure)]
        image = next(item for item in inside if item.tag == "img")
        spec = next(item for item in inside if item.tag == "script")
        yield figure, image, json.loads(gzip.decompress(base64.b64decode(spec.text)))


def check_charts(body: Any, page: Page) -> list[str]:
    """Every chart's data and words; names of the charts."""
    names = []
    for figure, image, specs in charts_in(page):
        name = figure.attributes["data-chart"]
        shown = json.loads(figure.attributes["data-requests"])
        requests = [request for request in body["requests"] if request["id"] in shown]
        assert specs["wide"]["datasets"] == specs["narrow"]["datasets"]
        kind = re.match("[a-z]+", name).group()  # type: ignore[union-attr]
        _DATA[kind](specs["wide"]["datasets"], body, requests)
        _check_words(kind, image.attributes["alt"], body, requests)
        names.append(name)
    return names


def _timeline(rows: Mapping[str, Rows], body: Any, requests: Rows) -> None:
    before = {request["id"]: (request["before"] or {}).get("test_forget_accuracy") for request in requests}
    expected = Counter[tuple[object, ...]]()
    for point in body["history"]:
        expected[point["round"], "retained classes", point["test_accuracy"]] += 1
        first, last = before.get(point["event"]), point["test_forget_accuracy"]
        if first is not None and last is not None:
            expected[point["round"], "forgotten, before", first] += 1
            expected[point["round"], "forgotten, after", last] += 1
    assert Counter((row["round"], row["series"], row["accuracy"]) for row in rows["points"]) == expected
    ends = Counter((row["round"], row["before"], row["after"]) for row in rows["jumps"])
    assert ends == Counter(
        (point["round"], before[point["event"]], point["test_forget_accuracy"])
        for point in body["history"]
        if before.get(point["event"]) is not None and point["test_forget_accuracy"] is not None
    )
    rounds = {point["event"]: point["round"] for point in body["history"]}
    assert [row["round"] for row in rows["requests"]] == [
        rounds[item["id"]] for item in requests if item["id"] in rounds
    ]
    assert len(rows["without"]) == sum(item["id"] not in rounds for item in requests)


def _requests(rows: Mapping[str, Rows], body: Any, requests: Rows) -> None:
    for figure in _ACCURACIES:
        expected = []
        for number, request in enumerate(body["requests"]):
            for model in ("before", "unlearned", "after", "oracle"):
                figures = request[model] or {}
                if figures.get(figure) is not None:
                    low, high = figures.get("intervals", {}).get(figure, (None, None))
                    expected.append((number, model, figures[figure], low, high))
        found = [
            (row["number"], row["model"], row["accuracy"], row.get("low"), row.get("high")) for row in rows[figure]
        ]
        assert sorted(found, key=str) == sorted(expected, key=str), figure


def _relapse(rows: Mapping[str, Rows], body: Any, requests: Rows) -> None:
    expected = set()
    for number, request in enumerate(body["requests"]):
        for place, row in enumerate(body["relapse"]):
            values = (
                row["test_forget_accuracy"] if request["id"] in row["test_forget_accuracy"] else row["forget_accuracy"]
            )
            if request["id"] in values:
                expected.add((number, place, values[request["id"]], request["id"] in row["relapsed"]))
    assert {(row["number"], row["place"], row["accuracy"], row["relapsed"]) for row in rows["cells"]} == expected


def _destinations(rows: Mapping[str, Rows], body: Any, requests: Rows) -> None:
    view = requests[0]["views"]["destinations"]
    assert set(rows) == {model for model in ("before", "after", "oracle") if view[model] is not None}
    assert len(view["labels"]) <= 24  # of more, the chart leaves some out
    for model, several in rows.items():
        assert [row["samples"] for row in several] == list(view[model])


def _projection(rows: Mapping[str, Rows], body: Any, requests: Rows) -> None:
    view = requests[0]["views"]["projection"]
    forgotten = set(requests[0]["target"]["classes"])
    for model in ("before", "after", "oracle"):
        several = rows.get(model, [])
        points = list(zip(view[model], view["classes"], strict=True)) if view[model] else []
        expected = Counter((*point, index in forgotten) for point, index in points)
        assert Counter((row["x"], row["y"], row["kind"] == "forgotten class") for row in several) == expected
        middles = sorted(
            fmean(point[0] for point, each in points if each == index) for index in {each for _, each in points}
        )
        named = rows.get(f"{model} names", [])  # none where there are many classes
        assert not named or sorted(row["across"] for row in named) == pytest.approx(middles, abs=1e-3)


def _membership(rows: Mapping[str, Rows], body: Any, requests: Rows) -> None:
    for model in ("before", "after", "oracle"):
        figures = requests[0][model]
        points = [row for row in rows["curves"] if row["model"].split(",")[0] == model]
        curve = figures["curves"]["membership_auc"] if figures and figures.get("curves") else []
        assert [[row["false"], row["true"]] for row in points] == [list(point) for point in curve]
        for row in points:
            assert row["area"] == figures["membership_auc"]
            assert row["model"] == f"{model}, AUC {rounded(figures['membership_auc'], 3)}"


def _cost(rows: Mapping[str, Rows], body: Any, requests: Rows) -> None:
    numbers = [number for number, request in enumerate(body["requests"]) if request in requests]
    for number in numbers:
        request = body["requests"][number]
        parts = [row["passes"] for row in rows["parts"] if row["number"] == number]
        assert sorted(parts) == sorted((request.get("passes_by_part") or {"": request["passes"]}).values())
        sides = {row["side"]: row for row in rows["totals"] if row["number"] == number}
        assert sides["request"]["passes"] == request["passes"]
        assert ("oracle" in sides) == bool(request["oracle_passes"])
        if "oracle" in sides:
            assert (sides["oracle"]["passes"], sides["oracle"]["own"]) == (request["oracle_passes"], request["passes"])
            ratio = request["oracle_passes"] / request["passes"]
            assert sides["oracle"]["times"].replace(",", "") == f"{rounded(ratio, 0 if ratio >= 1000 else 1)}x"


_DATA: dict[str, Callable[[Mapping[str, Rows], Any, Rows], None]] = {
    "timeline": _timeline, "requests": _requests, "relapse": _relapse, "destinations": _destinations,
    "projection": _projection, "membership": _membership, "cost": _cost,
}  # fmt: skip


def _check_words(kind: str, words: str, body: Any, requests: Rows) -> None:
    """The percentages of an alternative text, in their order, or its other numbers. Ids are shorter than 17 characters."""
    shares = [text.replace(",", "") for text in _SHARES.findall(words)]
    if kind == "timeline":
        history, expected = body["history"], []
        after = {point["event"]: point["test_forget_accuracy"] for point in body["history"]}
        expected += [history[0]["test_accuracy"], history[-1]["test_accuracy"]]
        for request in requests[:12]:
            first = (request["before"] or {}).get("test_forget_accuracy")
            if first is not None and after.get(request["id"]) is not None:
                expected += [first, after[request["id"]]]
        assert f"over {history[-1]['round']} rounds" in words and f"in round {history[0]['round']}," in words
        assert shares == [share(value) for value in expected]
    elif kind == "requests":
        assert shares == [
            share(request[model][figure])
            for request in requests[:8]
            for model in ("before", "after", "oracle")
            for figure in ("forget_accuracy", "retain_accuracy")
            if request[model] and request[model].get(figure) is not None
        ]
    elif kind == "relapse":
        values = [
            [
                (row["test_forget_accuracy"] if request["id"] in row["test_forget_accuracy"] else row["forget_accuracy"])
                .get(request["id"], -1)
                for row in body["relapse"]
            ]
            for request in requests
        ]  # fmt: skip
        assert shares == [share(max(several)) for several in values[:12]]
    elif kind == "destinations":
        view, told = requests[0]["views"]["destinations"], re.findall(r"(\d+) as (\S+?)[,;.]", words)
        expected = []
        for model in ("before", "after", "oracle"):
            counts = [(count, view["labels"][place]) for place, count in enumerate(view[model] or ()) if count]
            expected += [(str(count), label) for count, label in sorted(counts, key=lambda item: -item[0])[:4]]
        assert told == expected
    elif kind == "projection":
        view = requests[0]["views"]["projection"]
        samples = "images" if body.get("input") == "image" else "samples"
        own = sum(index in requests[0]["target"]["classes"] for index in view["classes"])
        assert f"of {len(view['classes'])} test {samples}, {own} of them" in words
        assert shares == [share(view["explained"])]
    elif kind == "membership":
        areas = [
            f" {rounded(figures['membership_auc'], 3)}"
            for model in ("before", "after", "oracle")
            if (figures := requests[0][model]) and figures.get("curves", {}).get("membership_auc")
        ]
        assert areas and [f" {text}" for text in re.findall(r"\d\.\d+", words)] == areas
    else:
        told = [
            f"{item['id']} {item['passes']:,}"
            + (f", its oracle {item['oracle_passes']:,}" if item["oracle_passes"] else "")
            for item in requests[:12]
        ]
        more = [f"and {len(requests) - 12} more"] if len(requests) > 12 else []
        counted = "1 request" if len(requests) == 1 else f"{len(requests)} requests"
        assert words == f"Sample passes of {counted}: {'; '.join(told + more)}."


def rounded(value: float, decimals: int, whole: int = 1) -> str:
    """Half away from zero; with up to four decimals, and then away from it, where a part would read as nothing or all."""
    exact = Decimal(value) * whole
    text = str(exact.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP))
    if not (1e-9 < value < 1 - 1e-9 and float(text) in (0, whole)):
        return text
    return (
        rounded(value, decimals + 1, whole)
        if decimals < 4
        else str(Decimal("0.0001") if value < 0.5 else whole - Decimal("0.0001"))
    )


def share(value: float) -> str:
    """A fraction in percent."""
    return rounded(value, 1, 100)
