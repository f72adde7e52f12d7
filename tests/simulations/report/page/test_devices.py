"""The table of devices against counts of results.json that are made here."""

from fed_unlearn.simulations.report.page.devices import device_table
from fed_unlearn.simulations.report.page.reading import DASH, Reading


def entry(client: str, message: str, device: str, count: int, visible: str = "") -> dict[str, object]:
    return {
        "client": client, "message": message, "device": device, "cuda_visible_devices": visible, "count": count,
    }  # fmt: skip


def test_each_client_has_a_row_for_each_device_and_each_kind_a_column() -> None:
    table = device_table(
        Reading(
            {
                "devices": [
                    entry("10", "train", "cpu", 7),
                    entry("2", "train", "cuda:0", 5),
                    entry("2", "evaluate", "cpu", 3),
                    entry("2", "evaluate", "cuda:0", 4),
                ]
            }
        )
    )
    shown = [
        [row.client.striptags(), row.device.striptags(), *(count.striptags() for count in row.counts)]
        for row in table.rows
    ]
    assert [message.striptags() for message in table.messages] == ["train", "evaluate"]
    assert shown == [["2", "cpu", DASH, "3"], ["2", "cuda:0", "5", "4"], ["10", "cpu", "7", DASH]]


def test_counts_of_two_graphics_cards_of_one_name_are_not_lost() -> None:
    devices = [entry("0", "train", "cuda:0", 5, "0"), entry("0", "train", "cuda:0", 6, "1")]
    table = device_table(Reading({"devices": devices}))
    assert [[count.striptags() for count in row.counts] for row in table.rows] == [["5"], ["6"]]


def test_results_without_devices_have_no_rows() -> None:
    assert device_table(Reading({})).rows == []
