"""What a request asked for, in words with elements for every number and name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from fed_unlearn.simulations.report.page.reading import Reading, joined

_GOALS = {"indistinguishable": "look unseen", "misclassify": "be misclassified", "relabel": "get other labels"}
_MANY = 12
"""Classes of one request that are named; further ones are counted."""


def target_markup(reading: Reading, index: int) -> Markup:
    """Say what a request forgets, such as ``class 3`` or ``4 samples of client 7``.

    Parameters
    ----------
    reading : Reading
    index : int
        Index of the request in the results.
    """
    place = ("requests", index, "target")
    target = reading.value(*place)
    if not isinstance(target, Mapping):
        return Markup("something unknown")
    classes = target.get("classes")
    if isinstance(classes, Sequence):
        names = [_class_markup(reading, index, position) for position in range(min(len(classes), _MANY))]
        if len(classes) > _MANY:
            names.append(Markup("and others, {} in all").format(reading.count(*place, "classes")))
        return Markup("{} {}").format("class" if len(classes) == 1 else "classes", joined(names, ", "))
    client = Markup("client {}").format(reading.text(*place, "client"))
    if "sample_ids" in target:
        number, count = reading.count(*place, "sample_ids"), len(target["sample_ids"])
    elif (key := next((key for key in ("samples", "count") if target.get(key) is not None), None)) is not None:
        number, count = reading.number(*place, key), target[key]
    else:
        return client
    of_class = Markup("")
    if target.get("of_class") is not None:
        label = reading.text("requests", index, "labels", 0)
        shown = label if reading.value("requests", index, "labels") else reading.number(*place, "of_class")
        of_class = Markup(" of class {}").format(shown)
    return Markup("{} sample{}{} of {}").format(number, "" if count == 1 else "s", of_class, client)


def asked_markup(reading: Reading, index: int) -> Markup:
    """Say what a request asked for, such as ``forget class 3`` or ``make 4 samples of client 7 look unseen``."""
    target, goal = target_markup(reading, index), reading.value("requests", index, "goal")
    if reading.value("requests", index, "scope") == "client":
        return Markup("forget all samples of {}").format(target)
    if goal:
        return Markup("make {} {}").format(target, _GOALS.get(goal, reading.text("requests", index, "goal")))
    return Markup("forget {}").format(target)


def _class_markup(reading: Reading, index: int, position: int) -> Markup:
    labels = reading.value("requests", index, "labels") or ()
    if position < len(labels):
        return reading.text("requests", index, "labels", position)
    return reading.number("requests", index, "target", "classes", position)
