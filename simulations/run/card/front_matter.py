"""The metadata of a model card, in the form that the Hugging Face Hub reads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fed_unlearn.simulations.run.card.facts import CardFacts, CardRequest
from fed_unlearn.text import printable

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_TASKS = {
    "image": ("image-classification", "Image classification"),
    "table": ("tabular-classification", "Tabular classification"),
    "text": ("text-classification", "Text classification"),
}
"""The Hub's name of the task, and what people call it, by what the model reads."""
_UNKNOWN_TASK = ("classification", "Classification")
_TAGS = ("machine-unlearning", "federated-learning", "flower", "pytorch", "safetensors")


def front_matter(facts: CardFacts) -> str:
    """The metadata as YAML, without the lines of hyphens around it. Nothing is looked up on the network.

    Test accuracies stand in ``model-index``. The key ``unlearning`` is this library's own: digests, the requests that
    are forgotten, and those that are not. The Hub's task is left out where nobody has said what the model reads.

    Parameters
    ----------
    facts : CardFacts
    """
    from huggingface_hub import ModelCardData

    task = _TASKS.get(facts.input or "")
    data = ModelCardData(
        datasets=facts.training.hub_data,
        pipeline_tag=task[0] if task else None,
        tags=[*(task[:1] if task else ()), *_TAGS],
        model_name=printable(facts.name),
        eval_results=_evaluations(facts) or None,
        unlearning={
            "model-sha256": facts.digest,
            "ledger": facts.ledger,
            "ledger-events": facts.events,
            "ledger-head": facts.head,
            "forgotten": [_entry(request) for request in facts.forgotten],
            "not-forgotten": [_entry(request) for request in facts.not_forgotten],
        },
    )
    return str(data.to_yaml())


def moment(seconds: float) -> str:
    """A time in UTC, to the second, such as ``2026-01-31T08:15:00Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _evaluations(facts: CardFacts) -> list[EvalResult]:
    """Test accuracy on the classes that are kept, and on those of each class request at the last look."""
    found = []
    if facts.test_accuracy is not None:
        found.append(_evaluation(facts, "Test accuracy on classes that are not forgotten", facts.test_accuracy))
    for request in facts.forgotten:
        if request.scope == "class" and request.last_accuracy is not None:
            name = f"Test accuracy on the classes that request {printable(request.id)} forgets"
            found.append(_evaluation(facts, name, request.last_accuracy))
    return found


def _evaluation(facts: CardFacts, name: str, value: float) -> EvalResult:
    from huggingface_hub import EvalResult

    task, called = _TASKS.get(facts.input or "", _UNKNOWN_TASK)
    data = printable(facts.training.data or "not recorded")
    return EvalResult(
        task_type=task,
        task_name=called,
        dataset_type=data,
        dataset_name=data,
        dataset_split="test",
        metric_type="accuracy",
        metric_name=name,
        metric_value=value,
    )


def _entry(request: CardRequest) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": printable(request.id), "scope": request.scope, "status": str(request.status)}
    if request.classes:
        entry["classes"] = list(request.classes)
    if request.samples:
        entry["samples"] = request.samples
    entry["asked"] = moment(request.asked)
    if request.ended is not None:
        entry["ended"] = moment(request.ended)
    if request.is_forgotten:
        entry |= {"method": printable(request.method or ""), "evidence": request.evidence or "not recorded"}
    if request.has_relapsed:
        entry["relapsed"] = True
    return entry
