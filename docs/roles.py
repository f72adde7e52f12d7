"""An extension of griffe: roles of Sphinx in docstrings, such as :class:`~fed_unlearn.gate.Gate`, become links.

What the reference does not show stays plain code.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`(~?)([\w.]+)`")


def _link(match: re.Match[str]) -> str:
    shortened, target = match.groups()
    shown = target.rpartition(".")[2] if shortened else target
    return f'<autoref optional identifier="{target}"><code>{shown}</code></autoref>'


class Roles(Extension):
    """Rewrites every docstring as it is read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Put links in the place of roles."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(_link, obj.docstring.value)
