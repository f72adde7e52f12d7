"""Reads what Weights & Biases wrote offline: a file in LevelDB's log format whose records are protocol buffers."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FILE_HEADER, _BLOCK, _RECORD_HEADER = 7, 2**15, struct.Struct("<IHB")
_FULL, _FIRST, _LAST = 1, 2, 4


def records(path: Path) -> Iterator[Any]:
    """The records of a ``.wandb`` file, in order; one that was cut off at the end is left out."""
    from wandb.proto import wandb_internal_pb2

    for body in _bodies(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(body)
        yield record


def _bodies(content: bytes) -> Iterator[bytes]:
    place, parts = _FILE_HEADER, b""
    while place + _RECORD_HEADER.size <= len(content):
        if _BLOCK - place % _BLOCK < _RECORD_HEADER.size:
            place += _BLOCK - place % _BLOCK
            continue
        _, length, kind = _RECORD_HEADER.unpack_from(content, place)
        place += _RECORD_HEADER.size
        part = content[place : place + length]
        place += length
        if len(part) < length:
            return
        parts = part if kind in (_FULL, _FIRST) else parts + part
        if kind in (_FULL, _LAST):
            yield parts


def offline_runs(folder: Path) -> list[Path]:
    """The files of a folder's offline runs, in the order in which they began, once each has its end.

    A process of the library's writes them, which goes on for a moment after the run is finished.
    """
    files = begun_runs(folder)
    for file in files:
        wait_for_end(file)
    return files


def begun_runs(folder: Path) -> list[Path]:
    """The files of a folder's offline runs, in the order in which they began. One that was killed has no end."""
    return sorted((folder / "wandb").glob("offline-run-*/*.wandb"))


def wait_for_end(file: Path) -> None:
    """Wait until a run that is finished is written as a whole."""
    deadline = time.monotonic() + 30
    while not any(record.WhichOneof("record_type") == "exit" for record in records(file)):
        assert time.monotonic() < deadline, f"{file}: it is not at its end"
        time.sleep(0.05)


def history(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """What was logged: the number of each call, and its values."""
    found = []
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            found.append((record.history.step.num, items))
    return found


def run_of(path: Path) -> Any:
    """The record of the run."""
    return next(record.run for record in records(path) if record.WhichOneof("record_type") == "run")


def summary(path: Path) -> dict[str, Any]:
    """The facts of the run that were set by themselves."""
    found: dict[str, Any] = {}
    for record in records(path):
        if record.WhichOneof("record_type") == "summary":
            items = record.summary.update
            found |= {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
    return found


def texts(path: Path) -> list[str]:
    """Every text that stands in a field of a record, at any depth."""
    from google.protobuf.json_format import MessageToDict

    def within(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, (dict, list)):
            for item in value.values() if isinstance(value, dict) else value:
                yield from within(item)

    return [text for record in records(path) for text in within(MessageToDict(record))]
