"""The text of a model card: what the model has forgotten and when, how that is known, and what it does not mean."""

from __future__ import annotations

from itertools import zip_longest

from fed_unlearn.audits.figures import Figures
from fed_unlearn.evidence import HowKnown
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.simulations.markdown import code, listed, table
from fed_unlearn.simulations.run.card.facts import CardFacts, CardRequest
from fed_unlearn.simulations.run.card.front_matter import moment
from fed_unlearn.simulations.run.results import IMAGES

_GOALS = {
    "indistinguishable": "to look unseen",
    "misclassify": "to be misclassified",
    "relabel": "to be called otherwise",
}
_ENDINGS = {
    Status.FAILED: "failed: what the model learned of it remains; its samples stay out of further training",
    Status.REJECTED: "rejected: nothing was done for it",
}
_WAITS = "it waits, and the model still has what it learned of it"


def card_text(facts: CardFacts) -> str:
    """The Markdown below the metadata.

    Parameters
    ----------
    facts : CardFacts
    """
    sections = {
        "What this model has forgotten, and when": _forgotten(facts),
        "What it has not forgotten": _not_forgotten(facts),
        "How the forgetting is known": _known(facts),
        "What forgetting means here, and its limits": _limits(facts),
        "Intended use": _use(facts),
        "Training": _training(facts),
        "Evaluation": _evaluation(facts),
        "The file and its record": _record(facts),
    }
    parts = [f"# {code(facts.name)}", _summary(facts)]
    for heading, text in sections.items():
        parts += [f"## {heading}", text] if text else []
    return "\n\n".join(parts) + "\n"


def _summary(facts: CardFacts) -> str:
    forgotten, open_ = facts.forgotten, facts.not_forgotten
    if not forgotten:
        said = f"{_classifier(facts)} that was trained by a federation."
        said += " It was asked to forget nothing, or has not done it."
    else:
        shown = [_what(request) for request in forgotten[:6]]
        if len(forgotten) > len(shown):
            shown.append(f"what {len(forgotten) - len(shown)} further requests name")
        said = f"{_classifier(facts)} that was trained by a federation and has forgotten, on request, {listed(shown)}."
    if open_:
        count = f"{len(open_)} request{' was' if len(open_) == 1 else 's were'}"
        said += f" **{count} not fulfilled**; see below."
    return said


def _classifier(facts: CardFacts) -> str:
    return "An image classifier" if facts.input == IMAGES else "A classifier"


def _samples(facts: CardFacts) -> str:
    return "images" if facts.input == IMAGES else "samples"


def _forgotten(facts: CardFacts) -> str:
    if not facts.forgotten:
        return "Nothing: no request was committed."
    rows = [
        (code(item.id), _what(item), _goal(item), moment(item.asked), _moment(item.ended)) for item in facts.forgotten
    ]
    relapsed = [code(item.id) for item in facts.forgotten if item.has_relapsed]
    worn_off = (
        f"\n\n**The forgetting of {listed(relapsed)} has worn off since**: at the last look it was out of bounds."
        if relapsed
        else ""
    )
    return table(("request", "forgotten", "wanted", "asked", "committed"), rows) + worn_off


def _not_forgotten(facts: CardFacts) -> str:
    rows = [
        (code(item.id), _what(item), moment(item.asked), _ENDINGS.get(item.status, f"{item.status}: {_WAITS}"))
        for item in facts.not_forgotten
    ]
    return table(("request", "asked for", "asked", "state"), rows) if rows else ""


def _known(facts: CardFacts) -> str:
    if not facts.forgotten:
        return ""
    has_oracle = any(item.oracle is not None for item in facts.forgotten)
    headings = ["request", "method", "evidence", "forget set", "retain set", "membership AUC"]
    headings += ["oracle", "oracle's AUC"] if has_oracle else []
    rows = [
        [
            code(item.id),
            code(item.method or "not recorded"),
            item.evidence or "not recorded",
            _change(item, "forget_accuracy"),
            _change(item, "retain_accuracy"),
            _change(item, "membership_auc"),
            *([_figure(item.oracle, name) for name in ("forget_accuracy", "membership_auc")] if has_oracle else []),
        ]
        for item in facts.forgotten
    ]
    words = {item.evidence for item in facts.forgotten}
    meanings = [f"- *{known}*: {known.meaning}" for known in HowKnown if known in words]
    notes = "Accuracies before and after each request, on the training samples that it names and on those that are kept"
    notes += ", and the AUC of a membership attack that holds the former beside test samples: at 0.5 it cannot tell"
    notes += " them apart. 95 % intervals stand in brackets; accuracies on all of these samples have none."
    if has_oracle:
        notes += " The oracle is the same training from scratch without all data forgotten by then: it shows what"
        notes += " accuracy on the forget set, and what AUC, a model has that never saw it."
    return "\n\n".join([table(headings, rows), notes, *(["\n".join(meanings)] if meanings else [])])


def _limits(facts: CardFacts) -> str:
    scopes, goals = {item.scope for item in facts.forgotten}, {item.goal for item in facts.forgotten}
    lines = [
        "- It is evidence, not a proof: no certificate of removal is given. Forgetting is judged by accuracy, by a"
        " membership attack, and beside the oracle where one was trained.",
    ]
    if "class" in scopes:
        lines.append(
            "- A forgotten class is no longer called by its name. What is left of it in the features can be of use to"
            f" whoever has its {_samples(facts)}. Its output is still there and is not to be used."
        )
    if "misclassify" in goals or "relabel" in goals:
        lines.append(
            "- Samples that were to be misclassified are: that alone can show what was asked, and later training can"
            " wear it off."
        )
    if "indistinguishable" in goals:
        lines.append(
            "- Samples that were to look unseen are told from unseen ones no better than by chance, as far as one"
            " membership attack shows. Others may tell them."
        )
    if "client" in scopes:
        lines.append(
            "- What a client that left had taught is taken out as far as others did not teach it too: the model may"
            " still be right on its samples, as a model would be that never saw them."
        )
    lines.append("- Copies of earlier versions of this model have forgotten nothing. Whoever has one should delete it.")
    return "\n".join(lines)


def _use(facts: CardFacts) -> str:
    return (
        f"Classification of {_samples(facts)} like those that it was trained on, where what the first table names must"
        " not be recognised any more. It is not meant for data of another kind, nor as a proof of deletion in itself:"
        " the record is the ledger, and receipts that are made of it."
    )


def _training(facts: CardFacts) -> str:
    training = facts.training
    known = {
        "data": training.data,
        "clients": training.clients,
        "strategy": training.strategy,
        "model": training.model,
        "rounds": training.rounds,
        "seed": training.seed,
    }
    rows = [(name, code(str(value))) for name, value in known.items() if value is not None]
    note = "Rounds are those of training, without those of unlearning and repair."
    return f"{table(('setting', 'value'), rows)}\n\n{note}"


def _evaluation(facts: CardFacts) -> str:
    rows = []
    if facts.test_accuracy is not None:
        value = _number(facts.test_accuracy, facts.test_interval)
        rows.append(("test samples of the classes that are not forgotten", value))
    for item in facts.forgotten:
        if item.last_accuracy is not None:
            samples = {"class": f"test samples of {_what(item)}", "client": "training samples of one client"}
            measured = samples.get(item.scope, f"{_what(item)}, of the training samples")
            rows.append((f"{measured} ({code(item.id)}), at the last look", _number(item.last_accuracy)))
    if not rows:
        return "No test accuracy of this very model was recorded."
    return table(("measured on", "accuracy"), rows)


def _record(facts: CardFacts) -> str:
    rows = [
        ("file", code(facts.file)),
        ("SHA-256", code(facts.digest)),
        ("ledger", code(facts.ledger)),
        ("its head", f"{code(facts.head)}, event {facts.events}"),
        ("versions", ", ".join(f"{name} {code(version)}" for name, version in facts.versions.items())),
    ]
    verify = (
        "`fed-unlearn ledger verify LEDGER --head HEAD` shows whoever has the ledger that nothing up to this head was"
        " changed since."
    )
    return table(("record", "value"), rows) + "\n\n" + verify


def _what(request: CardRequest) -> str:
    """What a request names, without the client that it concerns."""
    classes = [
        str(index) if label is None or label == str(index) else f"{code(label)} (index {index})"
        for index, label in zip_longest(request.classes, request.labels)
    ]
    if request.scope == "client":
        return "all that one client contributed"
    if request.scope == "sample":
        of_class = f" of class {classes[0]}" if classes else ""
        return f"{request.samples} sample{'' if request.samples == 1 else 's'}{of_class} of one client"
    return ("class " if len(classes) == 1 else "classes ") + listed(classes)


def _goal(request: CardRequest) -> str:
    if request.scope == "class":
        return "to be named no more"
    return "to be taken out" if request.scope == "client" else _GOALS.get(request.goal or "", "to be forgotten")


def _moment(seconds: float | None) -> str:
    return "" if seconds is None else moment(seconds)


def _change(request: CardRequest, name: str) -> str:
    return f"{_figure(request.before, name)} → {_figure(request.after, name)}"


def _figure(figures: Figures | None, name: str) -> str:
    value = None if figures is None else figures.named().get(name)
    return "-" if figures is None or value is None else _number(value, figures.intervals.get(name))


def _number(value: float, interval: tuple[float, float] | None = None) -> str:
    return f"{value:.3f}" if interval is None else f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"
