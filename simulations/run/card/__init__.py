"""The model card of an exported model, in the form of the Hugging Face Hub."""

from __future__ import annotations

from fed_unlearn.simulations.run.card.facts import CardFacts, card_facts
from fed_unlearn.simulations.run.card.front_matter import front_matter
from fed_unlearn.simulations.run.card.text import card_text

__all__ = ["CardFacts", "card_facts", "model_card"]


def model_card(facts: CardFacts) -> str:
    """The card: metadata in YAML, and text in Markdown.

    It names classes by index and label, and has neither names of clients nor ids of samples.

    Parameters
    ----------
    facts : CardFacts
    """
    return f"---\n{front_matter(facts).rstrip()}\n---\n\n{card_text(facts)}"
