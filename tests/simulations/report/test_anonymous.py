"""Results without clients' names."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest
from sample_results import REQUEST, RESULTS

from fed_unlearn.ledger import Ledger
from fed_unlearn.simulations.report.anonymous import Pseudonyms, anonymised, client_names
from fed_unlearn.simulations.report.table import plain_lines
from fed_unlearn.simulations.run.pseudonyms import in_order
from fed_unlearn.simulations.run.results import DeviceCount, RequestResult, RunResults
from fed_unlearn.simulations.run.training_results import RoundResult, TrainingResult

NAMED = ["3", "10", "hospital-berlin", "hospital-berlin-2", "St. Mary's (North)"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("client 3 is not reachable", "client A is not reachable"),
        ("client 3: client 10 did not answer train", "client A: client B did not answer train"),
        ("clients 3, 10 may; 3 of 10 samples", "clients A, B may; 3 of 10 samples"),
        ("clients 3 and hospital-berlin owe 10", "clients A and C owe 10"),
        ("client 3's figures of 10 samples", "client A's figures of 10 samples"),
        ("client '10' is bound to the key 3", "client B is bound to the key 3"),
        ("no client can take part: client 3, 10: too old", "no client can take part: client A, B: too old"),
        ("client 3, 10 samples", "client A, 10 samples"),
        ("its store runs/x/clients/10/store.db is gone", "its store runs/x/clients/B/store.db is gone"),
        ("File exists: '/runs/x/clients/10'", "File exists: '/runs/x/clients/B'"),
        ("fed-unlearn client rebind LEDGER 10", "fed-unlearn client rebind LEDGER B"),
        ("judged without client 99: it is unknown", "judged without client ?: it is unknown"),
        ("as hospital-berlin-2 and hospital-berlin say", "as D and C say"),
        ("hospital-berlin: no; hospital-berlin-3: yes", "C: no; hospital-berlin-3: yes"),
        ("client St. Mary's (North): broken", "client E: broken"),
        ("the client failed in 3 of 10 rounds", "the client failed in 3 of 10 rounds"),
        ("client 0a1b2c3d4e5f6071 is a reference", "client 0a1b2c3d4e5f6071 is a reference"),
        ("clients-3 and max-client-share 3", "clients-3 and max-client-share 3"),
        ("training of client 3", "training of client A"),
        ("", ""),
    ],
)
def test_names_in_free_text_are_replaced_and_other_numbers_stay(text: str, expected: str) -> None:
    assert Pseudonyms(NAMED).scrubbed(text) == expected


def test_letters_are_swapped_at_once() -> None:
    """A client that is called as another one's letter is not replaced twice."""
    pseudonyms = Pseudonyms(["B", "A"])
    assert pseudonyms.scrubbed("client B and client A: A, B") == "client A and client B: B, A"


def test_letters_go_on_after_z() -> None:
    pseudonyms = Pseudonyms(map(str, range(800)))
    assert [pseudonyms.of(str(number)) for number in (0, 25, 26, 51, 52, 701, 702)] == [
        *("A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"),
    ]
    assert pseudonyms.of("unheard") == "?" and pseudonyms.of("of node -17") == "of node -17"


def _with_clients(*names: str) -> RunResults:
    first, second = names
    training = TrainingResult(
        rounds=2,
        clients=(RoundResult(round=1, trained=1, failed={second: f"client {second} did not answer"}),),
        trained_clients=(first,),
        never_trained={second: f"client {second} did not answer"},
    )
    samples = RequestResult(
        id="r2",
        scope="sample",
        target={"client": second, "sample_ids": ["id-of-a-person", "another"]},
        method="instance-wise",
        status="failed",
        reason=f"client {second} is left out; without client {first}'s figures it is accepted",
        owed=(first,),
        left_out=(second,),
    )
    devices = (DeviceCount(client=first, message="train", device="cpu", cuda_visible_devices="", count=1),)
    return replace(RESULTS, training=training, requests=(REQUEST, samples), devices=devices)


@pytest.mark.parametrize("names", [("2", "11"), ("clinic-north", "clinic-south")])
def test_no_name_and_no_id_is_left_and_all_else_stays(names: tuple[str, str]) -> None:
    given = _with_clients(*names)
    before = json.dumps(dataclasses.asdict(given), default=str)
    hidden = anonymised(given)
    assert json.dumps(dataclasses.asdict(given), default=str) == before, "what was given is not changed"
    assert hidden.training.trained_clients == ("A",)
    assert hidden.training.never_trained == {"B": "client B did not answer"}
    assert hidden.training.clients[0].failed == {"B": "client B did not answer"}
    assert hidden.requests[1].target == {"client": "B", "samples": 2}
    assert hidden.requests[1].reason == "client B is left out; without client A's figures it is accepted"
    assert (hidden.requests[1].owed, hidden.requests[1].left_out) == (("A",), ("B",))
    assert hidden.devices[0].client == "A"
    assert "2 samples of client B" in "\n".join(plain_lines(hidden))
    same = ("scenario", "seed", "engine", "relapse", "history", "versions", "complete")
    assert all(getattr(hidden, name) == getattr(given, name) for name in same)
    assert hidden.requests[0] == given.requests[0]
    assert anonymised(hidden) == hidden, "letters have the same letters"


def test_letters_of_a_folder_do_not_depend_on_which_clients_the_results_name(tmp_path: Path) -> None:
    assert client_names(tmp_path) == ()
    (tmp_path / "scenario.toml").write_text("[clients]\ncount = 12\n")
    assert client_names(tmp_path) == tuple(map(str, range(12)))
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.meet(["2", "13"])
    ledger.close()
    names = client_names(tmp_path)
    assert names == (*map(str, range(12)), "13")
    assert anonymised(_with_clients("2", "11"), names).training.trained_clients == ("C",)
    assert in_order({"clinic", "10", "9"}, count=3) == ("9", "10", "clinic")


def test_a_relapse_that_is_named_after_a_client_gets_the_letter() -> None:
    row = replace(RESULTS.relapse[0], after="tombstones:clinic-north")
    hidden = anonymised(replace(RESULTS, relapse=(row,), relapse_due=("train:2", "tombstones:clinic-north")))
    assert hidden.relapse[0].after == "tombstones:C", "0 and 4 are the clients of these results"
    assert hidden.relapse_due == ("train:2", "tombstones:C")
