"""Versions of what is installed, which results depend on."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from platform import python_version

_PACKAGES = ("fed-unlearn", "flwr", "torch", "torchvision", "numpy", "ray")


def installed_versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on."""
    versions = {"python": python_version()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions
