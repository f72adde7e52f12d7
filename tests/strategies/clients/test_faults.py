"""What the results say of a client's fault: its kind, and names of what is missing, but nothing else of its text."""

import pytest
from made_replies import made_error

from fed_unlearn import protocol
from fed_unlearn.client.told_errors import describe
from fed_unlearn.strategies.clients.bounds.faults import fault_of


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("ValueError: patient 4711 has no label", "ValueError"),
        ("it answered with an error: torch.OutOfMemoryError: 3 of 4 samples", "OutOfMemoryError"),
        ("KeyError: 'learning-rate'", "KeyError: 'learning-rate'"),
        ("KeyError: 'Maria Schmidt'", "KeyError"),
        ("KeyError: 4711", "KeyError"),
        ("KeyError: 'patient4711'", "KeyError"),
        ("KeyError: ('a', 'b')", "KeyError"),
        ("BadPatient: number 4711", "BadPatient"),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: '/home/maria/data/labels.csv'",
            "FileNotFoundError: 'labels.csv'",
        ),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/home/maria/Maria S/'", "FileNotFoundError"),
        ("AttributeError: patient 4711 has no label", "AttributeError"),
        (
            "AttributeError: 'Net' object has no attribute 'fc'. Did you mean: 'fc1'?",
            "AttributeError: 'Net' has no attribute 'fc'",
        ),
        ("NameError: name 'np' is not defined. Did you mean: 'print'?", "NameError: name 'np' is not defined"),
        (
            "ImportError: cannot import name 'a' from 'b' (/home/maria/b.py)",
            "ImportError: cannot import name 'a' from 'b'",
        ),
        ("ModuleNotFoundError: No module named 'timm'", "ModuleNotFoundError: No module named 'timm'"),
        ("it did not answer", "it did not answer"),
        ("its array 'fc.weight' is not finite", "its array 'fc.weight' is not finite"),
    ],
)
def test_only_kinds_and_missing_names_are_told(reason: str, told: str) -> None:
    assert fault_of(reason) == told
    assert len(fault_of("KeyError: " + "x" * 1000)) <= 200


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("<class 'ValueError'>:<'row 4711\nMaria'>", "ValueError"),
        ("<class 'app.BadPatient'>:<'Maria'>", "BadPatient"),
        ("<class 'KeyError'>:<''learning-rate''>", "KeyError: 'learning-rate'"),
        ("<class 'fed_unlearn.errors.FedUnlearnError'>:<'train: ValueError at the client; see'>",
         "train: ValueError at the client; see"),
        ("ValueError: row 4711\nMaria", "ValueError"),
        ("Traceback (most recent call last):\n  File \"x\", line 1, in f\n    g()\nValueError: row\nMaria\n",
         "ValueError"),
        ("<class 'flwr.clientapp.client_app.ClientAppException'>:<'\nException ClientAppException occurred."
         " Message: Maria'>", "ClientAppException"),
        ("<class 'ray.exceptions.RayTaskError(ClientAppException)'>:<'ray::run()\nTraceback (most recent call last):\n"
         "app.ClientAppException: \nException ClientAppException occurred. Message: train: KeyError at the client\n'>",
         "train: KeyError at the client"),
        ("Message Unavailable", "Message Unavailable"),
        ("", "an error without a reason"),
        ("<class 'ValueError'>:<'" + "Maria\n" * 10_000 + "'>", "ValueError"),
    ],
)  # fmt: skip
def test_whatever_a_runtime_makes_of_an_error(reason: str, told: str) -> None:

    assert fault_of(protocol.error_of(made_error(0, reason))) == told


def test_a_client_tells_no_text_that_may_hold_data() -> None:
    with pytest.raises(ImportError) as caught:
        from fed_unlearn.protocol import no_such_name  # type: ignore[attr-defined]  # noqa: F401
    assert describe(caught.value) == "ImportError: cannot import name 'no_such_name' from 'fed_unlearn.protocol'"
    assert describe(AttributeError("Maria has no label")) == "AttributeError"
