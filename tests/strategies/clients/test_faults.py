"""What the results say of a client's fault: its kind, and names of what is missing, but nothing else of its text."""

import pytest

from fed_unlearn.strategies.clients.bounds.faults import fault_of


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("ValueError: patient 4711 has no label", "ValueError"),
        ("it answered with an error: torch.OutOfMemoryError: 3 of 4 samples", "OutOfMemoryError"),
        ("KeyError: 'learning-rate'", "KeyError: 'learning-rate'"),
        ("ModuleNotFoundError: No module named 'timm'", "ModuleNotFoundError: No module named 'timm'"),
        ("it did not answer", "it did not answer"),
        ("its array 'fc.weight' is not finite", "its array 'fc.weight' is not finite"),
    ],
)
def test_only_kinds_and_missing_names_are_told(reason: str, told: str) -> None:
    assert fault_of(reason) == told
    assert len(fault_of("KeyError: " + "x" * 1000)) <= 200
