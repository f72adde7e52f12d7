from dataclasses import replace

import pytest
import torch
from audited_digits import data, model, readings, seen
from torch import nn

from fed_unlearn.audits.features.frozen import central_of, drawn, frozen
from fed_unlearn.audits.readings import Readings
from fed_unlearn.errors import EmptySetError, InvalidModelError


def test_features_are_what_the_output_layer_reads() -> None:
    part = frozen("probe", readings("original"), "test_forget")
    with torch.inference_mode():
        expected = model("original")[:-1](data().parts["test_forget"].batch()[0])
    assert torch.allclose(part.features, expected.double(), atol=1e-6)
    some = part.at(torch.tensor([4, 0]))
    assert torch.equal(some.features, part.features[[4, 0]]) and len(some) == 2


def test_draws_are_bounded_by_the_seed_of_their_purpose() -> None:
    assert drawn(5, 5, 0, "retain").tolist() == [0, 1, 2, 3, 4]
    first, again, other = drawn(100, 10, 0, "retain"), drawn(100, 10, 0, "retain"), drawn(100, 10, 1, "retain")
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(first.unique()) == 10 and torch.equal(first, first.sort().values)


def test_what_cannot_be_read_is_refused() -> None:
    parts = {**data().parts, "test_forget": data().parts["test_forget"].of_classes([])}
    with pytest.raises(EmptySetError, match="probe: part 'test_forget' has no sample"):
        frozen("probe", Readings(model("original"), replace(data(), parts=parts)), "test_forget")
    with pytest.raises(EmptySetError, match="probe: the samples of a request are not in one place"):
        central_of("probe", replace(seen("original"), central=None))
    broken = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 10))
    with torch.no_grad():
        broken[1].bias[0] = torch.inf
    with pytest.raises(InvalidModelError, match="probe: Sequential: features before the output layer are not finite"):
        frozen("probe", Readings(broken, data()), "forget")
