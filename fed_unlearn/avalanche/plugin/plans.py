"""Puts the one method that a plug-in is given into a plan, for all scopes that the method serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fed_unlearn.local import LocalPlan
from fed_unlearn.methods import method_class
from fed_unlearn.requests import ParameterValue, ScopeKind


def planned(plan: LocalPlan, method: str | None, parameters: Mapping[str, ParameterValue]) -> LocalPlan:
    """Return the plan with ``method`` as the method of every scope that it serves.

    Parameters
    ----------
    plan : LocalPlan
        The plan to change. It is returned as it is if ``method`` is None.
    method : str or None
        Name of a method.
    parameters : mapping of str to value
        Hyper-parameters of ``method``. They replace those that the plan has for it.

    Raises
    ------
    InvalidParameterError
        If the method or one of its parameters is unknown or out of range.
    """
    if method is None:
        return plan
    served = set(method_class(method).scopes)
    if "sample" in served:
        served.add("client")
    scopes: tuple[ScopeKind, ...] = ("class", "sample", "client")
    defaults: dict[str, Any] = {f"{scope}_method": method for scope in scopes if scope in served}
    return replace(plan, **defaults, parameters={**plan.parameters, **({method: parameters} if parameters else {})})
