"""Messages of every type as JSON, so that later versions can be shown to read them.

``python tests/support/recorded_messages.py`` records those of this version under the number of its protocol. A file
that is there is never written again: it is what clients and servers out there send.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fed_unlearn import protocol

FOLDER = Path(__file__).parents[1] / "fed_unlearn" / "protocol" / "recorded"
_KINDS = {kind.__name__: kind for kind in (ArrayRecord, ConfigRecord, MetricRecord)}


def to_json(content: RecordDict) -> dict[str, Any]:
    """A message's records; arrays as the bytes that they travel in."""
    return {
        name: {
            "kind": next(kind for kind, cls in _KINDS.items() if isinstance(record, cls)),
            "items": {
                key: [value.dtype, list(value.shape), value.stype, base64.b64encode(value.data).decode()]
                if isinstance(value, Array)
                else value
                for key, value in record.items()
            },
        }
        for name, record in content.items()
    }


def from_json(body: Mapping[str, Any]) -> RecordDict:
    """Read what :func:`to_json` wrote."""
    content = RecordDict()
    for name, record in body.items():
        items = record["items"]
        if record["kind"] == "ArrayRecord":
            items = {
                key: Array(dtype, tuple(shape), stype, base64.b64decode(data))
                for key, (dtype, shape, stype, data) in items.items()
            }
        content[name] = _KINDS[record["kind"]](items)
    return content


def recorded(number: int) -> dict[str, tuple[RecordDict, RecordDict]]:
    """Message and reply by type, as the version of this number sent them."""
    body = json.loads((FOLDER / f"version-{number}.json").read_text(encoding="utf-8"))
    return {kind: (from_json(sent["message"]), from_json(sent["reply"])) for kind, sent in body.items()}


def record(number: int) -> Path:
    """Run a small federation, and keep the first message of each type and its reply."""
    from wire import life, wired

    file, kept = FOLDER / f"version-{number}.json", dict[str, Any]()
    if file.exists():
        raise SystemExit(f"{file}: is there already; messages that were sent once stay as they are")
    with TemporaryDirectory() as folder:
        strategy, grid, _ = wired(Path(folder))
        life(strategy, grid)
        grid.send_and_receive([Message(RecordDict(), 1, protocol.REQUESTS)])
        for message, reply in grid.crossed:
            both = {"message": message.content, "reply": reply.content}
            sent = {name: to_json(protocol.bundled(content)) for name, content in both.items()}
            kept.setdefault(message.metadata.message_type, sent)
    FOLDER.mkdir(exist_ok=True)
    file.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return file


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    print(record(getattr(protocol, "PROTOCOL_VERSION", 1)))
