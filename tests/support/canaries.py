"""The search for ids that must not have left a place: raw, in hexadecimal, in base64, and as SHA-256.

``python tests/support/canaries.py IDS PATH ...`` searches files, and folders with all that is below them, for the ids
in the file IDS, one on each line. It prints each find, and ends with 1 where there is one.
"""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

_BLOCK = 2**24


def forms_of(canary: str) -> dict[str, bytes]:
    """What an id may look like in a file, by the name of the form.

    Of base64, whose digits depend on where in a text the id starts, the three alignments are there, without the digits
    that the neighbours of the id change too. A digest is there in full and as its first 16 hexadecimal digits.
    """
    raw = canary.encode()
    digest = hashlib.sha256(raw)
    forms = {
        "raw": raw,
        "in UTF-16": canary.encode("utf-16-le"),
        "without hyphens": canary.replace("-", "").encode(),
        "its bytes in hexadecimal": raw.hex().encode(),
        "its bytes in capital hexadecimal": raw.hex().upper().encode(),
        "SHA-256": digest.digest(),
        "SHA-256 in hexadecimal": digest.hexdigest()[:16].encode(),
        "SHA-256 in base64": base64.b64encode(digest.digest())[:40],
        "SHA-256 in base64 for URLs": base64.urlsafe_b64encode(digest.digest())[:40],
    }
    for shift in range(3):
        for name, encode in (("base64", base64.b64encode), ("base64 for URLs", base64.urlsafe_b64encode)):
            first, last = -(-8 * shift // 6), 8 * (shift + len(raw)) // 6
            forms[f"{name}, {shift} bytes from the start"] = encode(bytes(shift) + raw + bytes(3))[first:last]
    return forms


def found_in(contents: Mapping[str, bytes], ids: Iterable[str]) -> list[str]:
    """What of some ids is found in texts: the place, the number of the id and the form, and never the id itself."""
    wanted = _wanted(ids)
    return [f"{place}: {what}" for place, content in contents.items() for what in _found(content, wanted)]


def found_anywhere(paths: Iterable[Path | str], ids: Sequence[str]) -> list[str]:
    """What of some ids is found in files, and in folders with all that is below them.

    Parameters
    ----------
    paths : iterable of Path or str
        They must exist.
    ids : sequence of str

    Returns
    -------
    list of str
        Each find: the file, the number of the id, counted from 1, and in which form it is there. Empty where nothing is.
    """
    wanted, finds = _wanted(ids), list[str]()
    longest = max(len(form) for form in wanted.values())
    for file in _files(paths):
        finds += [f"{file}: its name: {what}" for what in _found(str(file).encode(), wanted)]
        seen: dict[str, None] = {}
        with file.open("rb") as stream:
            tail = b""
            while block := stream.read(_BLOCK):
                seen |= dict.fromkeys(_found(tail + block, wanted))
                tail = (tail + block)[-longest:]
        finds += [f"{file}: {what}" for what in seen]
    return finds


def _wanted(ids: Iterable[str]) -> dict[str, bytes]:
    wanted: dict[str, bytes] = {}
    for number, canary in enumerate(ids, start=1):
        for name, form in forms_of(canary).items():
            if form in wanted.values():
                continue
            wanted[f"id {number}, {name}"] = form
    if not wanted:
        raise ValueError("no id was given; expected at least one")
    return wanted


def _found(content: bytes, wanted: Mapping[str, bytes]) -> Iterator[str]:
    return (what for what, form in wanted.items() if form in content)


def _files(paths: Iterable[Path | str]) -> Iterator[Path]:
    for path in map(Path, paths):
        if path.is_dir():
            yield from (file for file in sorted(path.rglob("*")) if file.is_file())
        elif path.exists():
            yield path
        else:
            raise FileNotFoundError(f"{path} does not exist; a search there would find nothing for no reason")


if __name__ == "__main__":
    found = found_anywhere(sys.argv[2:], Path(sys.argv[1]).read_text().split())
    print("\n".join(found) if found else "nothing found")
    sys.exit(1 if found else 0)
