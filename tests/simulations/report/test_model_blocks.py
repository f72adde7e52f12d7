"""The blocks of a model, as the command line prints them."""

from __future__ import annotations

import pytest

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.report.model_blocks import print_blocks


def test_blocks_are_printed_from_input_to_output(capsys: pytest.CaptureFixture[str]) -> None:
    print_blocks("small-cnn", "1x8x8")
    printed = capsys.readouterr().out
    assert "blocks of small-cnn" in printed and "features.0, features.4, classifier" in printed


def test_a_shape_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="expected channels, height and width"):
        print_blocks("small-cnn", "8 x 8")
