"""Measure a sequence of requests over several seeds, beside oracles and beside other methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.plan import FederatedPlan
from fed_unlearn.simulations.bench.sequence.measuring import SeedMeasures
from fed_unlearn.simulations.bench.sequence.results import FILE_NAME, SequenceReport
from fed_unlearn.simulations.bench.sequence.settings import SequenceSettings
from fed_unlearn.simulations.run.folders import OutputFolderError, make_folder, usable_folder
from fed_unlearn.simulations.run.installed import installed_versions
from fed_unlearn.simulations.scenario import Scenario, load_scenario

_OPEN = (
    *(f'gate.{scope}.max-forget-accuracy="none"' for scope in ("class", "client", "sample")),
    *(
        f'gate.{scope}.{key}="none"'
        for scope in ("class", "client", "indistinguishable", "sample")
        for key in ("max-retain-drop", "max-total-retain-drop", "max-forget-excess")
    ),
    *(f'gate.class.{key}="none"' for key in ("max-recall-at-5", "max-recall-without-bias")),
    'gate.indistinguishable.max-above-reference="none"',
    'gate.client.max-confidence-share="none"',
    "gate.indistinguishable.membership-contains-half=false",
)
"""Overrides that let every request be committed, whatever its figures."""


def run_sequence_bench(
    settings: SequenceSettings, on_progress: Callable[[str], None] = lambda text: None
) -> SequenceReport:
    """Measure all seeds. ``sequence.json`` is written after each run; seeds that it holds are not measured again.

    Parameters
    ----------
    settings : SequenceSettings
    on_progress : callable
        Called with a line of text after every event.

    Returns
    -------
    SequenceReport

    Raises
    ------
    FedUnlearnError
        If the scenario or the folder cannot be used.
    """
    scenario = load_scenario(settings.scenario, settings.overrides)
    if not any(scenario.forget_entries()):
        raise InvalidParameterError(f"{scenario.source_file}: the timeline has no request; expected some to measure")
    new = SequenceReport(
        scenario=scenario.model_copy(update={"seed": 0}).to_toml(),
        main=scenario.unlearning.method,
        beside=settings.beside,
        oracles=settings.oracles,
        versions=installed_versions(),
    )
    if new.main in settings.beside:
        raise InvalidParameterError(f"--beside {new.main}: is the method of the scenario itself; expected others")
    folder = settings.out.expanduser().absolute()
    report = _begun(new, folder)
    scenarios = {seed: scenarios_of(settings, new.main, seed) for seed in settings.seeds}
    make_folder(folder)
    for seed in settings.seeds:
        known = {each.seed: each for each in report.seeds}
        if seed in known and known[seed].runs.keys() == scenarios[seed].keys():
            on_progress(f"seed {seed}: measured before")
            continue
        for measured in SeedMeasures(scenarios[seed], settings.oracles, on_progress).results():
            report = replace(report, seeds=tuple({**known, seed: measured}.values()))
            report.save(folder)
            on_progress(f"seed {seed}: {', '.join(measured.runs)} measured in {measured.seconds:.0f} s")
    return report


def _begun(new: SequenceReport, folder: Path) -> SequenceReport:
    """What the folder holds of the same comparison; the new report where it holds nothing."""
    if not (folder / FILE_NAME).is_file():
        usable_folder(folder, FILE_NAME)
        return new
    known = SequenceReport.load(folder)
    if replace(known, seeds=(), versions=new.versions) != new:
        raise OutputFolderError(
            f"--out {folder}: holds another comparison, of another scenario, of other methods or with another number of"
            " oracles; expected the same, or a new or empty folder"
        )
    return known


def scenarios_of(settings: SequenceSettings, main: str, seed: int) -> dict[str, Scenario]:
    """The scenario with a seed, as it is and with each of the other methods.

    Parameters
    ----------
    settings : SequenceSettings
    main : str
        The name of the scenario as it is.
    seed : int
    """
    seeded = (*settings.overrides, f"seed={seed}")
    found = {main: load_scenario(settings.scenario, seeded)}
    for name in settings.beside:
        changed = (
            *(f"unlearning.method={name}", f"unlearning.client-method={FederatedPlan.client_method}"),
            "unlearning.depth=shallow",
        )
        overrides = (*seeded, *changed, "unlearning.repair-rounds=0", *_OPEN)
        found[name] = load_scenario(settings.scenario, overrides)
    return found
