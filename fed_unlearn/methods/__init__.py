"""Unlearning methods by name.

A method registers itself with :func:`register`; another package offers one through the entry point group
``fed_unlearn.methods``, as :class:`fed_unlearn.registry.Registry` describes.
"""

from fed_unlearn.methods.base import Method, Outcome
from fed_unlearn.methods.registry import METHODS, register

available = METHODS.available
"""Every method by its name, sorted."""
create = METHODS.create
"""``create(name, **parameters)``: a method with the given hyper-parameters, the others at their defaults."""
distribution_of = METHODS.distribution_of
"""The installed distribution whose entry point gives a method; None for built-in ones."""
method_class = METHODS.find
"""The class of a method."""
unavailable = METHODS.unavailable
"""Entry points that cannot be loaded, with the reason."""

__all__ = [
    "METHODS",
    "Method",
    "Outcome",
    "available",
    "create",
    "distribution_of",
    "method_class",
    "register",
    "unavailable",
]
