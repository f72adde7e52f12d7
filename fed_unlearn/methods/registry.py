"""The registry of unlearning methods; a method's module imports :func:`register` from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fed_unlearn.registry import Registry

if TYPE_CHECKING:
    from fed_unlearn.methods.base import Method

METHODS: Registry[Method] = Registry(
    "method",
    contract="fed_unlearn.methods.base:Method",
    group="fed_unlearn.methods",
    built_in=(
        "fed_unlearn.methods.boundary_shrink",
        "fed_unlearn.methods.boundary_expanding",
        "fed_unlearn.methods.instance_wise",
        "fed_unlearn.methods.finetune",
        "fed_unlearn.methods.random_label",
        "fed_unlearn.methods.negative_gradient_plus",
        "fed_unlearn.methods.scrub",
        "fed_unlearn.methods.bad_teacher",
        "fed_unlearn.methods.selective_dampening",
        "fed_unlearn.methods.saliency",
        "fed_unlearn.methods.delete",
        "fed_unlearn.methods.damp",
        "fed_unlearn.methods.reset_and_relearn",
        "fed_unlearn.methods.mask_output",
        "fed_unlearn.methods.frozen_head",
        "fed_unlearn.methods.client_projected_ascent",
        "fed_unlearn.methods.unlearning_cross_entropy",
        "fed_unlearn.methods.fedquit",
        "fed_unlearn.methods.negated_update",
    ),
)
register = METHODS.register
