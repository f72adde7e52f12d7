"""Reports of a federation by Avalanche's metrics and loggers."""

from fed_unlearn.avalanche.reporting.federation_report import LOGGERS, FederationReport

__all__ = ["LOGGERS", "FederationReport"]
