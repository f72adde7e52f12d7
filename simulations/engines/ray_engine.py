"""The Ray engine: it starts ``flwr run`` for the user, and reports how the run really ended."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.engines.app_run import AppRun, run_app, run_settings, scenario_app
from fed_unlearn.simulations.engines.superlink import LocalSuperLink


@dataclass(frozen=True, kw_only=True)
class RayResources:
    """The number of clients and the resources of each.

    Parameters
    ----------
    clients : int
        Number of simulated nodes.
    cpus_per_client, gpus_per_client : float
        CPUs and GPUs that one client holds while it works. As many clients work in parallel as the machine allows.
    cpus : int, optional
        CPUs that Ray may use. Default: those that this process may use.
    gpus : int, optional
        GPUs that Ray assumes. Default: those that it finds. More than there are is useful in tests only.
    """

    clients: int
    cpus_per_client: float = 1
    gpus_per_client: float = 0
    cpus: int | None = None
    gpus: int | None = None

    def __post_init__(self) -> None:
        if self.clients < 1:
            raise InvalidParameterError(f"{self.clients} clients were given; expected at least 1")
        if not self.gpus_per_client >= 0:
            raise InvalidParameterError(f"--gpus-per-client {self.gpus_per_client}: expected 0 or more")

    def federation(self) -> dict[str, float | int]:
        """The settings as ``flwr run --federation-config`` takes them.

        Raises
        ------
        InvalidParameterError
            If clients need GPUs and there are too few for one client.
        """
        if self.gpus is None and self.gpus_per_client > 0:
            _check_gpus(self.gpus_per_client)
        cpus = self.cpus if self.cpus is not None else _usable_cpus()
        settings: dict[str, float | int] = {
            "num-supernodes": self.clients,
            "client-resources-num-cpus": self.cpus_per_client,
            "client-resources-num-gpus": self.gpus_per_client,
            "init-args-num-cpus": cpus,
        }
        return settings if self.gpus is None else {**settings, "init-args-num-gpus": self.gpus}


def run_on_ray(
    out: Path,
    resources_: RayResources,
    *,
    oracle: bool = False,
    ledger_key: Path | None = None,
    receipt_key: Path | None = None,
    app: Path | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> AppRun:
    """Run the scenario of a run folder as a Flower app on the local simulation runtime, and wait for its end.

    Parameters
    ----------
    out : Path
        The run folder. The resolved ``scenario.toml`` is in it.
    resources_ : RayResources
    oracle : bool
        Whether the retrain oracle is trained.
    ledger_key : Path, optional
        The file of the ledger's key, if it is not to stand beside the ledger.
    receipt_key : Path, optional
        The file of the key that signs receipts, if it is not to stand in the run folder.
    app : Path, optional
        The folder of another Flower app that takes the same settings.
    on_line : callable
        Called with every line that the run prints.

    Returns
    -------
    AppRun

    Raises
    ------
    EngineError
        If the runtime does not start or does not answer.
    KeyboardInterrupt
        On Ctrl-C, after the run was stopped and all of its processes ended.
    """
    out = out.resolve()
    settings = run_settings(out, "ray", oracle=oracle, ledger_key=ledger_key, receipt_key=receipt_key)
    federation = resources_.federation()
    with LocalSuperLink(out / "superlink.log") as superlink:
        return run_app(
            superlink.commands,
            app if app is not None else scenario_app(),
            settings,
            federation=federation,
            on_line=on_line,
        )


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_gpus(share: float) -> None:
    import torch

    found = torch.cuda.device_count()
    if share > found:
        raise InvalidParameterError(f"--gpus-per-client {share:g}: {found} GPUs were found; expected 0 to {found}")
