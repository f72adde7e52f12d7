"""What models have answered is known again, by model and sample, and of no sample that may be read no longer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from canaries import found_anywhere
from federation import DigitsTask
from flwr.app import Context, RecordDict
from torch import nn

from fed_unlearn.client import kept_files, known_answers
from fed_unlearn.client.judged_models import JudgedModels
from fed_unlearn.client.known_answers import FILE_NAME, KnownAnswers, ModelAnswers
from fed_unlearn.client.session import ClientSession
from fed_unlearn.client.store import ClientStore
from fed_unlearn.data.images import ClientData, ImageSet
from fed_unlearn.logits import predict_logits
from fed_unlearn.seeding import isolated_random

SAMPLES = ImageSet(torch.eye(4).reshape(4, 1, 2, 2), torch.tensor([0, 1, 2, 0]), list("abcd"))


def linear(seed: int) -> nn.Sequential:
    with isolated_random(seed):
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))


def asked(folder: Path, model: nn.Module, samples: ImageSet = SAMPLES, reader: str = "") -> int:
    """Passes of an audit that reads some samples, and writes what it has read."""
    known = KnownAnswers(folder, "data")
    judged = JudgedModels(model, None, known, reader)
    own, counted = judged.read(samples, scored=True)
    assert torch.allclose(own, predict_logits(model, samples)) and counted.scores is not None
    known.save()
    return judged.passes


def test_a_sample_is_read_once_by_a_model_whatever_else_is_read(tmp_path: Path) -> None:
    model = linear(0)
    assert asked(tmp_path, model, SAMPLES.subset(torch.tensor([1, 2]))) == 2 + 2, "two samples, and two for the layer"
    assert asked(tmp_path, model) == 2 + 2, "the two others"
    assert asked(tmp_path, model) == 0
    assert asked(tmp_path, linear(1)) == 4 + 2
    with torch.no_grad():
        model[1].bias[0] += 1
    assert asked(tmp_path, model) == 4 + 2, "another model"


def test_the_same_id_in_another_part_is_another_sample(tmp_path: Path) -> None:
    known, model = KnownAnswers(tmp_path, "data"), linear(0)
    judged = JudgedModels(model, None, known)
    judged.read(SAMPLES, part="train")
    judged.read(SAMPLES, part="test")
    judged.read(SAMPLES, part="test")
    assert judged.passes == 4 + 4 + 2


def test_what_an_attempt_has_read_counts_again_where_it_is_made_again(tmp_path: Path) -> None:
    model = linear(0)
    assert asked(tmp_path, model, reader="ledger r1#1") == 6
    assert asked(tmp_path, model, reader="ledger r1#1") == 6, "a crash has cut the attempt off: nobody counted it"
    assert asked(tmp_path, model, reader="ledger r2#1") == 0
    assert asked(tmp_path, model) == 0


def test_both_models_of_a_client_are_known_by_themselves(tmp_path: Path) -> None:
    used, shared = linear(0), linear(1)
    for expected in (2 * (4 + 2), 0):
        known = KnownAnswers(tmp_path, "data")
        judged = JudgedModels(used, shared, known)
        judged.read(SAMPLES)
        known.save()
        assert judged.passes == expected


def test_nothing_is_kept_of_samples_that_may_be_read_no_longer(tmp_path: Path) -> None:
    model = linear(0)
    asked(tmp_path, model)
    known = KnownAnswers(tmp_path, "data")
    known.save({"b", "d"})
    written = KnownAnswers(tmp_path, "data")
    again = written.of(model)
    assert again.keys == [written.key_of("train", "a"), written.key_of("train", "c")] and again.logits.shape == (2, 3)
    assert torch.allclose(again.of([written.key_of("train", "c")])[0], predict_logits(model, SAMPLES)[2:3])
    assert asked(tmp_path, model) == 2 + 2


def test_the_models_that_were_asked_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(known_answers.MOST_MODELS):
        asked(tmp_path, linear(seed))
    assert asked(tmp_path, linear(0)) == 0, "and is asked last now"
    assert asked(tmp_path, linear(9)) == 6
    assert asked(tmp_path, linear(0)) == 0
    assert asked(tmp_path, linear(1)) == 6, "was asked longest ago"
    known = KnownAnswers(tmp_path, "data")
    known.keep_last()
    known.save()
    assert asked(tmp_path, linear(1)) == 0
    assert asked(tmp_path, linear(0)) == 6
    monkeypatch.setattr(known_answers, "MOST_BYTES", 2 * 4 * 3 * 4)  # logits and scores of four samples
    asked(tmp_path, linear(5))
    assert asked(tmp_path, linear(5)) == 0
    assert asked(tmp_path, linear(0)) == 6, "both models together are too large"


@pytest.mark.parametrize("content", [b"", b"no answers", b"PK\x03\x04"])
def test_a_file_that_cannot_be_read_costs_another_reading(tmp_path: Path, content: bytes) -> None:
    asked(tmp_path, linear(0))
    (tmp_path / FILE_NAME).write_bytes(content)
    assert asked(tmp_path, linear(0)) == 6
    assert asked(tmp_path, linear(0)) == 0


def test_answers_to_other_data_are_not_used(tmp_path: Path) -> None:
    asked(tmp_path, linear(0))
    assert KnownAnswers(tmp_path, "other data").of(linear(0)).keys == []


def test_no_id_stands_in_the_file(tmp_path: Path) -> None:
    names = [f"c7e2{number}-4d0b-9f" for number in range(4)]
    asked(tmp_path, linear(0), ImageSet(SAMPLES.images, SAMPLES.labels, names))
    assert found_anywhere([tmp_path / FILE_NAME], names) == []


def test_answers_are_dropped_by_the_first_message_after_the_retention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, fingerprint = linear(0), "f" * 64
    held = ClientData(SAMPLES, SAMPLES, SAMPLES, 3, fingerprint)
    context = Context(1, 1, {"partition-id": 0, "client-dir": str(tmp_path)}, RecordDict(), {})

    def unknown() -> list[str]:
        known = KnownAnswers(tmp_path, fingerprint)
        keys = {known.key_of("train", name): name for name in SAMPLES.ids}
        return [keys[list(keys)[place]] for place in known.of(model).missing(list(keys))]

    def arrives() -> ClientStore:
        return ClientSession(DigitsTask(data_of=lambda client: held), context, {}).store

    known = KnownAnswers(tmp_path, fingerprint)
    JudgedModels(model, None, known).read(SAMPLES)
    known.save()
    store = arrives()
    store.quarantine("r1", ["b"], 1)
    store.confirm("r1", retention_days=1)
    arrives()
    assert unknown() == []
    later = time.time() + 2 * 86_400
    monkeypatch.setattr(time, "time", lambda: later)
    arrives()
    assert unknown() == ["b"]


def test_answers_come_in_the_order_that_is_asked_for() -> None:
    answers = ModelAnswers("model")
    answers.add(["x", "y"], torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]]), "")
    answers.add(["z"], torch.tensor([[5.0]]), torch.tensor([[6.0]]), "r1#1")
    assert answers.of(["z", "x"])[0].flatten().tolist() == [5.0, 1.0]
    assert answers.of(["z", "x"])[1].flatten().tolist() == [6.0, 3.0]
    assert answers.missing(["y", "w"]) == [1] and answers.read_for(["x", "z"], "r1#1") == ["z"]


def test_a_full_disk_costs_another_reading_and_leaves_nothing_that_may_be_read_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = linear(0)
    asked(tmp_path, model)

    def full(path: Path, content: bytes, *, synced: bool) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(kept_files, "write_atomically", full)
    KnownAnswers(tmp_path, "data").save(unreadable=["a"])
    assert not (tmp_path / FILE_NAME).exists() and "samples are read again" in caplog.text
    monkeypatch.undo()
    assert asked(tmp_path, model) == 4 + 2


def test_a_file_whose_parts_do_not_fit_costs_another_reading(tmp_path: Path) -> None:
    model = linear(0)
    known = KnownAnswers(tmp_path, "data")
    answers = known.of(model)
    known.add(answers, ["x"], torch.zeros(1, 3), torch.zeros(1, 3), "")
    answers.logits = torch.zeros(0, 3)
    known.save()
    assert asked(tmp_path, model) == 4 + 2
    assert asked(tmp_path, model) == 0


def test_a_folder_in_place_of_the_file_costs_another_reading_each_time(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME / "within").mkdir(parents=True)
    assert asked(tmp_path, linear(0)) == asked(tmp_path, linear(0)) == 4 + 2
