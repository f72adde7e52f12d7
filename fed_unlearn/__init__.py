"""Continual unlearning for federated learning: methods, audits, gate, data, the client side and the ledger.

Its names are imported when they are used, so that a command can catch an interrupt from its first moment on.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # typing itself takes a while to import
if TYPE_CHECKING:
    from fed_unlearn.errors import FedUnlearnError
    from fed_unlearn.requests import ClassScope, ClientScope, ForgetRequest, SampleScope

    __version__: str

__all__ = ["ClassScope", "ClientScope", "FedUnlearnError", "ForgetRequest", "SampleScope", "__version__"]


def __getattr__(name: str) -> object:
    if name == "__version__":
        value = _version()
    elif name in __all__:
        value = getattr(import_module("fed_unlearn.errors" if name.endswith("Error") else "fed_unlearn.requests"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fed-unlearn")
    except PackageNotFoundError:
        return "0+unknown"
