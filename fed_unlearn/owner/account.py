"""Whose account a node's folder belongs to: what another account writes there, the node cannot use."""

from __future__ import annotations

import os
from pathlib import Path

from fed_unlearn.errors import FedUnlearnError

_STORE = "state.json"


def check_account(folder: Path) -> None:
    """Refuse to write into the folder of another account's node. Nothing is refused where a system has no accounts.

    The node writes its store under its own account, so that the store's owner counts; before there is one, the
    folder's.

    Raises
    ------
    FedUnlearnError
        The message names both accounts.
    """
    if not hasattr(os, "geteuid"):
        return
    try:
        found = (folder / _STORE).stat()
    except FileNotFoundError:
        found = folder.stat()
    except OSError as error:
        raise FedUnlearnError(f"{folder}: cannot be read: {error.strerror}; run it under the node's account") from None
    if (own := os.geteuid()) != found.st_uid:
        node = _account(found.st_uid)
        raise FedUnlearnError(
            f"{folder} belongs to {node}, and this command runs as {_account(own)}: the node could not read what it"
            f" writes; run it as {node}, nothing was changed"
        )


def _account(uid: int) -> str:
    """The name of an account, where it has one."""
    try:
        import pwd

        return f"account {pwd.getpwuid(uid).pw_name} ({uid})"
    except (ImportError, KeyError):
        return f"account {uid}"
