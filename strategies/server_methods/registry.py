"""The registry of server-side methods; a method's module imports :func:`register` from here."""

from __future__ import annotations

from typing import Any

from fed_unlearn.registry import Registry

# Of Any: naming the contract's class would make every plan import what a server-side method works with. The package
# itself has the registry's precise type.
SERVER_METHODS: Registry[Any] = Registry(
    "server-side method",
    contract="fed_unlearn.strategies.server_methods.base:ServerMethod",
    group="fed_unlearn.server_methods",
    built_in=(
        "fed_unlearn.strategies.server_methods.retrain",
        "fed_unlearn.strategies.server_methods.federaser",
        "fed_unlearn.strategies.server_methods.ascent_and_recovery",
        "fed_unlearn.strategies.server_methods.fedosd",
        "fed_unlearn.strategies.server_methods.weight_negation",
        "fed_unlearn.strategies.server_methods.distillation_and_recovery",
        "fed_unlearn.strategies.server_methods.negated_update",
        "fed_unlearn.strategies.server_methods.reset_and_relearn",
        "fed_unlearn.strategies.server_methods.frozen_head",
        "fed_unlearn.strategies.server_methods.fresh_head",
    ),
)
register = SERVER_METHODS.register
