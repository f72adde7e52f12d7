"""What it means that a forgetting is known in some way stands in one place."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from receipt_ledgers import opened, write

from fed_unlearn import receipts
from fed_unlearn.evidence import HowKnown
from fed_unlearn.receipts import receipt_of, wording
from fed_unlearn.simulations.report.page.summary import MEANINGS


def test_receipts_their_schema_and_reports_say_the_same(tmp_path: Path) -> None:
    with opened(write(tmp_path / "ledger.db")) as ledger:
        receipt = receipt_of(ledger, "r1")
    schema = json.loads(files(receipts).joinpath("receipt-1.schema.json").read_text(encoding="utf-8"))
    described = schema["$defs"]["receipt"]["properties"]["evidence"]["description"].lower()
    assert set(MEANINGS) == set(HowKnown)
    for known in HowKnown:
        told = wording.how_it_is_known(receipt.model_copy(update={"evidence": str(known)}))
        assert told.startswith(f"{known.capitalize()}. {known.meaning}")
        assert MEANINGS[known] == known.meaning
        assert f"{known}: {known.meaning.partition('. ')[0].lower()}" in described
