"""The table of devices: how many messages of each kind every client answered on which one."""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup

from fed_unlearn.simulations.report.page.reading import DASH, Reading
from fed_unlearn.strategies.clients.messages.exchange import client_order


@dataclass(frozen=True, kw_only=True)
class DeviceRow:
    """One client on one device: a count for each kind of message."""

    client: Markup
    device: Markup
    counts: list[Markup]


@dataclass(frozen=True, kw_only=True)
class DeviceTable:
    """The kinds of messages, and a row for each client and device."""

    messages: list[Markup] = field(default_factory=list)
    rows: list[DeviceRow] = field(default_factory=list)


def device_table(reading: Reading) -> DeviceTable:
    """Count messages by client, device and kind.

    Parameters
    ----------
    reading : Reading
        The results of a run.

    Returns
    -------
    DeviceTable
        Rows in the order of clients, and kinds in the order in which the results name them. Empty where the results
        name no device.
    """
    places: dict[tuple[str, str, str], dict[str, int]] = {}
    kinds: dict[str, Markup] = {}
    for index, item in enumerate(reading.value("devices") or ()):
        row = places.setdefault((item["client"], item["device"], item["cuda_visible_devices"]), {})
        row[item["message"]] = index
        kinds.setdefault(item["message"], reading.text("devices", index, "message"))
    rows = []
    for key in sorted(places, key=lambda key: (client_order(key[0]), key[1:])):
        indices = places[key]
        first = next(iter(indices.values()))
        rows.append(
            DeviceRow(
                client=reading.text("devices", first, "client"),
                device=reading.text("devices", first, "device"),
                counts=[_count(reading, indices.get(kind)) for kind in kinds],
            )
        )
    return DeviceTable(messages=list(kinds.values()), rows=rows)


def _count(reading: Reading, index: int | None) -> Markup:
    if index is None:
        return Markup('<span class="none">{}</span>').format(DASH)
    return reading.number("devices", index, "count")
