"""What a warm executor imports once, so that no message's process has to."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pkgutil
import sys
import tomllib
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.scenario import load_scenario
from fed_unlearn.text import quoted

CLIENT_MODULES = (
    "flwr.supernode.runtime.run_clientapp",
    "torch",
    "torch._dynamo",  # the first optimizer of a process imports it
    "fed_unlearn.client",
    "fed_unlearn.client.actions",
    "fed_unlearn.client.store",
    "fed_unlearn.simulations.client_app",
)
CLIENT_PACKAGES = ("fed_unlearn.audits", "fed_unlearn.methods", "fed_unlearn.protocol")
"""Modules that every client of this library needs, with the client side of scenarios, and packages of such modules."""


def preload(modules: Sequence[str], app: Path | None) -> None:
    """Import what clients need into this process, and what an app's client side imports from outside of its folder.

    Parameters
    ----------
    modules : sequence of str
        Dotted names of further modules that are installed.
    app : Path, optional
        The folder of a Flower app. Its own modules are not imported: every run brings its own version of them.

    Raises
    ------
    InvalidParameterError
        If a module cannot be imported, if `app` is no Flower app, or if a module initialised CUDA, which no process
        forked from this one could use then.
    """
    for name in [*CLIENT_MODULES, *_modules_in(CLIENT_PACKAGES), *modules]:
        _import(name, "--preload")
    load_scenario("digits")  # imports what reading any scenario does
    if app is not None:
        for name in _imports_of(app):
            _import(name, "--app")
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_initialized():
            raise InvalidParameterError(
                "a preloaded module initialises CUDA when it is imported, and no process forked later could use it; "
                "leave it out of --preload and --app"
            )


def running_threads() -> int:
    """Count the threads of this process, those of native libraries too where the system tells."""
    folder = Path("/proc/self/task")
    return len(os.listdir(folder)) if folder.is_dir() else 1


def _modules_in(packages: Iterable[str]) -> list[str]:
    """Names of all modules in packages that are installed, at any depth."""
    found = []
    for name in packages:
        package = importlib.import_module(name)
        found += [module.name for module in pkgutil.walk_packages(package.__path__, f"{name}.")]
    return found


def _import(name: str, option: str) -> None:
    try:
        importlib.import_module(name)
    except Exception as error:
        raise InvalidParameterError(
            f"{option}: module {quoted(name)} cannot be imported ({type(error).__name__}: {error}); "
            "expected a module that is installed for this Python"
        ) from error


def _imports_of(app: Path) -> list[str]:
    """Names of the modules that an app's client side imports and that do not lie in the app's folder.

    The app is imported in a process of its own.
    """
    module = _client_module(app)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_imports, args=(sender, module, app.resolve()))
    process.start()
    sender.close()
    try:
        answer = cast(list[str] | str, receiver.recv())
    except EOFError:
        answer = "its process ended"
    process.join()
    if isinstance(answer, str):
        raise InvalidParameterError(
            f"--app {quoted(str(app))}: its client app {quoted(module)} cannot be imported ({answer})"
        )
    return answer


def _client_module(app: Path) -> str:
    file = app / "pyproject.toml"
    try:
        settings = tomllib.loads(file.read_text("utf-8"))
        return str(settings["tool"]["flwr"]["app"]["components"]["clientapp"]).partition(":")[0]
    except OSError as error:
        raise InvalidParameterError(
            f"--app: {quoted(str(file))} cannot be read: {error.strerror}; expected the folder of a Flower app"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise InvalidParameterError(
            f"--app: {quoted(str(file))} names no client app; expected tool.flwr.app.components.clientapp"
        ) from error


def _send_imports(sender: Connection, module: str, app: Path) -> None:
    before = set(sys.modules)
    sys.path.insert(0, str(app))
    try:
        importlib.import_module(module)
    except Exception as error:
        sender.send(f"{type(error).__name__}: {error}")
        return
    sender.send([name for name in sys.modules if name not in before and _is_installed(name, app)])


def _is_installed(name: str, app: Path) -> bool:
    """Whether a module that was imported can be imported by its name alone, from outside of the app's folder."""
    spec = getattr(sys.modules[name], "__spec__", None)
    if spec is None or spec.name != name:
        return False
    place = spec.origin or next(iter(spec.submodule_search_locations or ()), None)
    if place is None or not os.path.isabs(place):
        return spec.origin in ("built-in", "frozen")
    return not Path(place).resolve().is_relative_to(app)
