"""Views of requests in the run folder: the model before a request is purged when the request is committed."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fed_unlearn.checkpoints import make_private_folder, write_atomically
from fed_unlearn.simulations.run.views.projection import Projection
from fed_unlearn.simulations.run.views.view_results import RequestViews

FOLDER = "views"
"""Name of the folder in a run folder."""

_VERSION = 1
_PLAIN = re.compile(r"[a-z0-9_-]{1,64}")

logger = logging.getLogger("fed_unlearn.simulations")


@dataclass(frozen=True, kw_only=True)
class KeptView:
    """The views of one request so far.

    Attributes
    ----------
    series : int
        How often the request had ended before the attempts that they are of began: 0 unless it was opened again.
    classes, others : tuple of int
        The forgotten classes, and those that are shown beside them.
    views : RequestViews
    projection : Projection or None
        The plane of the projection.
    is_whole : bool
        Whether the model after the request was looked at.
    """

    series: int
    classes: tuple[int, ...]
    others: tuple[int, ...]
    views: RequestViews
    projection: Projection | None = None
    is_whole: bool = False


@dataclass(frozen=True)
class ViewFolder:
    """Reads and writes the views of a run, one private file a request.

    Attributes
    ----------
    folder : Path
        The folder ``views`` of a run folder. It is made with the first file.
    """

    folder: Path
    _known: dict[str, KeptView] = field(default_factory=dict, init=False)

    def read(self, request_id: str) -> KeptView | None:
        """The views of a request; None where there are none, or they cannot be read."""
        if request_id not in self._known:
            path = self._path(request_id)
            try:
                self._known[request_id] = _kept_view(path.read_bytes(), request_id)
            except FileNotFoundError:
                return None
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.warning("%s cannot be read, so request %s has no views: %r", path, request_id, error)
                return None
        return self._known[request_id]

    def write(self, request_id: str, kept: KeptView) -> None:
        """Write the views of a request in one step.

        Raises
        ------
        OSError
            If they cannot be written.
        """
        body = {
            **{"version": _VERSION, "request": request_id, "series": kept.series},
            **{"classes": kept.classes, "others": kept.others, "is_whole": kept.is_whole},
            "projection": None if kept.projection is None else kept.projection.to_json(),
            "views": asdict(kept.views),
        }
        make_private_folder(self.folder)
        write_atomically(self._path(request_id), json.dumps(body, allow_nan=False).encode())
        self._known[request_id] = kept

    def _path(self, request_id: str) -> Path:
        """The file of a request; an id that is no plain name gives its digest."""
        is_plain = _PLAIN.fullmatch(request_id) is not None
        name = request_id if is_plain else f"id.{hashlib.sha256(request_id.encode()).hexdigest()[:32]}"
        return self.folder / f"{name}.json"


def _kept_view(content: bytes, request_id: str) -> KeptView:
    body = json.loads(content)
    if body["version"] != _VERSION or body["request"] != request_id:
        raise ValueError("of another version, or of another request")
    plane = body["projection"]
    return KeptView(
        series=int(body["series"]),
        classes=tuple(map(int, body["classes"])),
        others=tuple(map(int, body["others"])),
        views=RequestViews.from_json(body["views"]),
        projection=None if plane is None else Projection.from_json(plane),
        is_whole=bool(body["is_whole"]),
    )
