"""Continual unlearning for federated learning: methods, audits, gate, data, the client side and the ledger."""

from importlib.metadata import PackageNotFoundError, version

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.requests import ClassScope, ClientScope, ForgetRequest, SampleScope

__all__ = ["ClassScope", "ClientScope", "FedUnlearnError", "ForgetRequest", "SampleScope", "__version__"]

try:
    __version__ = version("fed-unlearn")
except PackageNotFoundError:
    __version__ = "0+unknown"
