"""The strategies of Flower by name, with their papers; what of each can be wrapped is asked of the strategies' room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy

PAPERS: Final = {
    "FedAvg": "McMahan et al., AISTATS 2017",
    "FedProx": "Li et al., MLSys 2020",
    "FedAvgM": "Hsu et al., 2019",
    "FedAdagrad": "Reddi et al., ICLR 2021",
    "FedAdam": "Reddi et al., ICLR 2021",
    "FedYogi": "Reddi et al., ICLR 2021",
    "QFedAvg": "Li et al., ICLR 2020",
    "FedMedian": "Yin et al., ICML 2018",
    "FedTrimmedAvg": "Yin et al., ICML 2018",
    "Krum": "Blanchard et al., NeurIPS 2017",
    "MultiKrum": "Blanchard et al., NeurIPS 2017",
    "Bulyan": "El Mhamdi et al., ICML 2018",
    "DifferentialPrivacyServerSideFixedClipping": "McMahan et al., ICLR 2018",
    "DifferentialPrivacyServerSideAdaptiveClipping": "Andrew et al., NeurIPS 2021",
    "DifferentialPrivacyClientSideFixedClipping": "McMahan et al., ICLR 2018",
    "DifferentialPrivacyClientSideAdaptiveClipping": "Andrew et al., NeurIPS 2021",
    "FedXgbBagging": "none",
    "FedXgbCyclic": "none",
    "FrozenHead": "Hoerl and Kennard, Technometrics 1970",
}
"""Every strategy of ``flwr.serverapp.strategy`` in Flower 1.41, and the one of this library."""


def strategy_class(name: str) -> type[Strategy]:
    """The class of one of these names."""
    from flwr.serverapp import strategy as flower

    from fed_unlearn.strategies.inner.frozen_head import FrozenHead

    cls: type[Strategy] = FrozenHead if name == FrozenHead.__name__ else getattr(flower, name)
    return cls


def _strategy_name(value: object) -> object:
    if isinstance(value, str) and value in PAPERS:
        return value
    raise PydanticCustomError("strategy", "Input should be a strategy of Flower: " + ", ".join(PAPERS))


StrategyName = Annotated[str, BeforeValidator(_strategy_name)]
"""Name of a strategy above. One that cannot be wrapped is refused, with the reason, when it is constructed."""
