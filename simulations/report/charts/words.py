"""Texts of charts. What users wrote is made printable and short, and two things never have the same text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from fed_unlearn import figure_numbers
from fed_unlearn.simulations.report.table import target_words
from fed_unlearn.simulations.run.results import IMAGES, RequestResult, RunResults
from fed_unlearn.text import printable

COMMITTED, FAILED, REJECTED, OPEN = "committed", "failed", "rejected", "not ended"

_LONGEST_ID, _LONGEST_LABEL = 16, 40

_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_NOT_PLAIN = re.compile(r"[^a-z0-9_-]+")
_MODELS = {
    "before": "before the request",
    "unlearned": "after its unlearn round",
    "after": "at its end",
    "oracle": "of the retrain oracle",
}


def distinct(texts: Iterable[str], limit: int) -> list[str]:
    """Texts in their order, printable and short. Texts that would look alike get a number.

    Parameters
    ----------
    texts : iterable of str
        What users or their data call things.
    limit : int
        Greatest length of a text in characters, at least 8.

    Returns
    -------
    list of str
        As many texts as were given, all different.
    """
    made: dict[str, None] = {}
    for text in texts:
        shown, number = printable(text, limit), 1
        while shown in made:
            number += 1
            ending = f" ({number})"
            shown = printable(text, limit - len(ending)) + ending
        made[shown] = None
    return list(made)


def short_ids(results: RunResults) -> dict[str, str]:
    """What charts call each request, by its id."""
    ids = [request.id for request in results.requests]
    return dict(zip(ids, distinct(ids, _LONGEST_ID), strict=True))


def request_fields(results: RunResults) -> dict[str, dict[str, object]]:
    """What the rows of a chart say of each request, by its id.

    ``number`` is its place in the run, counted from 0, ``request`` its short id, ``forgets`` what it forgets, and
    ``label`` both of these.
    """
    named = short_ids(results)
    texts = [f"{named[request.id]}: {target_words(request)}" for request in results.requests]
    labels = distinct(texts, _LONGEST_LABEL)
    return {
        request.id: {"number": number, "request": named[request.id], "label": label, "forgets": target_of(request)}
        for number, (request, label) in enumerate(zip(results.requests, labels, strict=True))
    }


def outcome_of(request: RequestResult) -> str:
    """How a request ended: ``committed``, ``failed``, ``rejected`` or ``not ended``."""
    return request.status if request.status in (COMMITTED, FAILED, REJECTED) else OPEN


def target_of(request: RequestResult) -> str:
    """What a request forgets, fit for a tooltip."""
    return printable(target_words(request), 80)


def forgotten_classes(request: RequestResult) -> frozenset[int]:
    """Indices of the classes that a request names."""
    classes = request.target.get("classes")
    return frozenset(int(item) for item in classes) if isinstance(classes, list | tuple) else frozenset()


def samples_word(results: RunResults) -> str:
    """What texts call the inputs of the model: ``images`` where the results say that they are, else ``samples``."""
    return "images" if results.input == IMAGES else "samples"


def model_words(name: str) -> str:
    """What captions and alternatives call a model."""
    return _MODELS[name]


def file_names(kind: str, requests: Sequence[RequestResult]) -> Mapping[str, str]:
    """A name for the chart of each request that can be the name of a file everywhere, by the request's id.

    Ids of small letters, digits, ``-`` and ``_`` stay. Others are cut to these, and the request's place in the run
    follows after a dot, which no plain id has.
    """
    names = {}
    for place, request in enumerate(requests, start=1):
        plain = _PLAIN.fullmatch(request.id) is not None
        stem = request.id if plain else f"{_NOT_PLAIN.sub('-', request.id.lower())[:40].strip('-')}.{place}"
        names[request.id] = f"{kind}-{stem}"
    return names


def percent(value: float | None) -> str:
    """A fraction as a percentage for an alternative, such as ``98.4 %``; ``not measured`` where there is none."""
    return figure_numbers.percent(value, missing="not measured")


def counted(requests: int) -> str:
    """A number of requests, such as ``1 request``."""
    return f"{requests} request{'' if requests == 1 else 's'}"


def listed(parts: Iterable[str], most: int = 12) -> str:
    """Join parts of an alternative with semicolons. Of many, the first are told, and how many others there are."""
    everything = list(parts)
    rest = len(everything) - most
    return "; ".join(everything[:most]) + (f"; and {rest} more" if rest > 0 else "")
