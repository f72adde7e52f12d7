from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from audited_digits import data, model, readings, seen
from scipy import stats

from fed_unlearn.audits.battery import audits_of, central_observation, run_audits
from fed_unlearn.audits.readings import Readings
from fed_unlearn.audits.relearning_cells import Cell, GridSettings, Outcome
from fed_unlearn.audits.relearning_grid import MAIN, Relearning, mean_of_draws, ratio_of_draws


class Small(Relearning):
    """Three cells, of fewer steps and samples."""

    settings: ClassVar[GridSettings] = GridSettings(max_measured=30, max_retained=60, fixed_steps=4)
    grid: ClassVar[tuple[Cell, ...]] = (Cell("forget", 10, 2), MAIN, Cell("mixed", 5, 2), Cell("forget", 10_000))


def outcome(steps: int, *, reached: bool = True, share: float = 0.5) -> Outcome:
    return Outcome((steps // 2, steps), (True, reached), share, share, share, share)


def test_the_interval_is_that_of_students_distribution() -> None:
    values = [20.0, 24.0, 31.0]
    found = mean_of_draws(values)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert found.value == pytest.approx(25) and found.interval == pytest.approx((low, high), abs=1e-6)
    assert mean_of_draws([0.9, 0.95, 1.0], 1).interval == (pytest.approx(0.825793, abs=1e-6), 1)
    assert mean_of_draws([3.0]).interval is None


def test_the_ratio_is_that_of_the_means() -> None:
    mine = [outcome(10), outcome(20)]
    oracles = [[outcome(30), outcome(50)], [outcome(50), outcome(70)]]
    found = ratio_of_draws(mine, oracles)
    assert found.value == pytest.approx(15 / 50)
    low, high = stats.t.interval(0.95, 1, loc=0.3, scale=stats.sem([10 / 40, 20 / 60]))
    assert found.interval == pytest.approx((max(0, low), high), abs=1e-6)
    never = [outcome(120, reached=False), outcome(120, reached=False)]
    bounded = ratio_of_draws(mine, [never])
    assert bounded.value == pytest.approx(15 / 120) and bounded.interval is None
    assert ratio_of_draws(never, [never]).value is None
    assert ratio_of_draws(mine, [[outcome(0), outcome(0)]]).value is None


def test_figures_are_named_by_cell_and_a_bound_is_no_measurement() -> None:
    drawn = (outcome(20, share=0.4), outcome(120, reached=False, share=0.6))
    few = Cell("forget", 10, 2)
    alone = Relearning(((few, drawn), (MAIN, drawn), (Cell("mixed", 10, 2), drawn), (Cell("forget", 50), ())))
    figures = alone.figures
    assert figures["relearn_10_forget_steps_90"].value == figures["relearn_steps"].value == 70
    assert figures["relearn_steps"].interval is None and figures["relearn_reached"].value == 0.5
    assert figures["relearn_10_forget_steps_50"].interval is not None
    assert figures["relearn_all_forget_retain_accuracy"].value == 0.5
    assert figures["relearn_10_mixed_recall"].value == figures["relearn_10_mixed_auc"].value == 0.5
    assert "relearn_ratio" not in figures and not any(name.startswith("relearn_50") for name in figures)
    assert all(name.isidentifier() and name.islower() for name in figures)
    beside = replace(alone, beside=((few, (drawn,)), (MAIN, ((outcome(100), outcome(100)),)))).figures
    assert beside["relearn_10_forget_ratio"].value == 1.0
    assert beside["relearn_ratio"].value == pytest.approx(0.7)
    assert beside["relearn_oracles_reached"].value == 1.0
    lost = Relearning(((MAIN, (outcome(20, share=0.4), Outcome((120, 120), (False, False)))),)).figures
    assert lost["relearn_all_forget_retain_accuracy"].value == 0.4 and lost["relearn_reached"].value == 0.5
    assert alone.value == 70 and Relearning().value is None and Relearning().figures == {}
    assert alone.gate_figures == {}


def test_a_mask_and_an_overwritten_row_are_as_shallow_as_the_original() -> None:
    found = {
        name: Small.count(seen(name)).figures for name in ("original", "mask-output", "overwritten", "second-oracle")
    }
    assert found["original"] == found["mask-output"] == found["overwritten"]
    assert found["original"]["relearn_ratio"].value < 0.9 < found["second-oracle"]["relearn_ratio"].value  # type: ignore[operator]
    assert found["original"]["relearn_reached"].value == found["original"]["relearn_oracles_reached"].value == 1
    assert found["original"] != Small.count(seen("original", seed=1)).figures
    assert not any("10000" in name for name in found["original"])


def test_oracles_relearn_once_for_all_models() -> None:
    oracle = Readings(model("oracle"), data())

    def count(name: str) -> None:
        audited = Readings(model(name), data())
        Small.count(central_observation(audited, "class", original=readings("original"), oracles=(oracle,)))

    count("original")
    first = (oracle.passes.forward, oracle.passes.backward)
    assert first[1] > 0
    count("delete")
    assert (oracle.passes.forward, oracle.passes.backward) == first
    Small.count(central_observation(oracle, "class", original=readings("original")))
    assert oracle.passes.backward == first[1] + 2 * 2 * 50  # two draws of twice 50 balanced samples


def test_the_battery_runs_it_where_it_is_asked_for() -> None:
    assert "relearning" in audits_of("full", "class") and "relearning" not in audits_of("default", "class")
    assert "relearning" not in audits_of("full", "client")
    run = run_audits(central_observation(readings("mask-output"), "class"), ["relearning"])["relearning"]
    assert run.figures == {} and run.error is not None and "give it as 'original'" in run.error


def test_the_whole_grid_is_measured() -> None:
    alone = central_observation(readings("mask-output"), "class", original=readings("original"))
    run = run_audits(alone, ["relearning"])["relearning"]
    assert run.error is None and run.backward_passes > 0
    sizes = {name.split("_")[1] for name in run.figures}
    assert sizes == {"1", "10", "50", "all", "steps", "reached"}
    assert run.figures["relearn_all_retain_steps_90"].value == 0  # the class is there once the mask is lifted
