"""Whether the numbers, texts, times and digests of a report are those of the run folder, read back from its HTML."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

from page_reader import Element, Page, found_at

_MODEL_OF_WORDS = {
    "before": "before",
    "fell from": "before",
    "rose from": "before",
    "stayed at": "after",
    "after": "after",
    "oracle": "oracle",
}
"""Words in front of a number of the summary, and the model whose number it is."""


def as_number(text: str) -> float:
    return float(text.replace(",", ""))


def is_rounding(text: str, value: float) -> bool:
    """Whether a text is the number, rounded to the decimals that it shows, and neither 0 nor 1 unless the number is."""
    shown = Decimal(text.replace(",", ""))
    step = Decimal(1).scaleb(-len(text.partition(".")[2]))
    rounded = Decimal(value).quantize(step, ROUND_HALF_UP)
    hidden = (shown == 0) != (abs(value) < 1e-9) or (shown == 1 and value < 1 - 1e-9)
    return not text.startswith("-0.0000") and (shown == rounded or abs(value - round(value)) < 1e-4) and not hidden


def check_numbers(body: Any, page: Page) -> int:
    """Every number is the one at the place that it names; how many there are."""
    elements = page.having("data-from")
    for element in elements:
        value = found_at(body, element.attributes["data-from"])
        assert json.loads(element.attributes["value"]) == value, element
        assert is_rounding(element.text, value), (element.text, value, element.attributes["data-from"])
    return len(elements)


def check_texts(body: Any, page: Page) -> set[str]:
    """Every text is the one at the place that it names; all of them."""
    elements = page.having("data-text-from")
    for element in elements:
        assert str(found_at(body, element.attributes["data-text-from"])) == element.text
    return {element.text for element in elements}


def check_counts(body: Any, page: Page) -> int:
    """Every count is that of the list that it names; how many there are."""
    counts = page.having("data-count")
    for element in counts:
        entries = found_at(body, element.attributes["data-count"])
        if "data-where" in element.attributes:
            keys, wanted = json.loads(element.attributes["data-where"])
            entries = [entry for entry in entries if _at(entry, keys) == wanted]
        assert as_number(element.text) == len(entries) == json.loads(element.attributes["value"])
    return len(counts)


def check_places(body: Any, page: Page) -> None:
    """Every number that stands under a request or a model, or after words that name a model, is one of these."""
    order = [request["id"] for request in body["requests"]]
    for element in page.having("data-from"):
        path = element.attributes["data-from"]
        row = _above(element, "data-request")
        if row is not None and row.tag != "td" and row.tag != "th" and path.startswith("requests["):
            assert path.startswith(f"requests[{order.index(row.attributes['data-request'])}]"), (path, row)
        cell = _above(element, "data-label")
        if cell is not None and "checks" not in path:
            assert f".{cell.attributes['data-label']}." in path, (path, cell)
    for sentence in _sentences(page):
        for words, path in re.findall(r"([^\u27e8\u27e9]*)\u27e8([^\u27e9]+)\u27e9", sentence):
            for said, model in _MODEL_OF_WORDS.items():
                if words.rstrip().endswith(said):
                    assert f".{model}." in path, (path, sentence)


def check_folder(folder: Path, page: Page) -> None:
    """Times, digests and settings are those of the folder, as it is now."""
    body = json.loads((folder / "results.json").read_text())
    moments = {
        _moment(request[key]) for request in body["requests"] for key in ("submitted", "ended") if request.get(key)
    }
    assert {(item.attributes["datetime"], item.text) for item in page.all("time")} == moments
    shown = {item.text for item in page.all("code")}
    for name in ("results.json", "scenario.toml"):
        if (folder / name).is_file():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() in shown, name
    assert {item.text for item in page.all("dd")} >= set(body["versions"].values())
    settings = dict(_settings(tomllib.loads((folder / "scenario.toml").read_text())))
    rows = [item for item in page.all("td") if item.within(lambda one: one.attributes.get("class") == "settings")]
    assert len(rows) == len(settings) > 0
    assert {str(value) for value in settings.values() if type(value) in (int, float)} <= {item.text for item in rows}


def _sentences(page: Page) -> Iterator[str]:
    """Paragraphs of the summary, with the place of each number in angle brackets in place of the number."""
    paragraphs: dict[int, str] = {}
    for element, text in page.texts:
        paragraph = _above_tag(element, "p")
        if element is None or paragraph is None:
            continue
        place = element.attributes.get("data-from")
        paragraphs[id(paragraph)] = paragraphs.get(id(paragraph), "") + (f"\u27e8{place}\u27e9" if place else text)
    yield from paragraphs.values()


def _settings(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _settings(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for place, item in enumerate(value):
                yield from _settings(item, f"{prefix}{key}.{place}.")
        else:
            yield f"{prefix}{key}", value


def _moment(seconds: float) -> tuple[str, str]:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(), moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _above(element: Element, attribute: str) -> Element | None:
    found: Element | None = element
    while found is not None and attribute not in found.attributes:
        found = found.parent
    return found


def _above_tag(element: Element | None, tag: str) -> Element | None:
    while element is not None and element.tag != tag:
        element = element.parent
    return element


def _at(entry: object, keys: list[str]) -> object:
    for key in keys:
        entry = entry.get(key) if isinstance(entry, dict) else None
    return entry
