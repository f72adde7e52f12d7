"""Reads the files of clients' stores, as somebody would who looks into them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def stored_requests(path: Path, ledger: str | None = None) -> dict[str, dict[str, Any]]:
    """What a store has of each request, by id; of all ledgers, or of one."""
    items = json.loads(path.read_text())["requests"].items()
    return {item.get("id", key): item for key, item in items if ledger in (None, item.get("ledger", ""))}
