"""The report of a run as one HTML page that loads nothing."""

from fed_unlearn.simulations.report.page.render import FILE_NAME, SECTIONS, render_report, write_report

__all__ = ["FILE_NAME", "SECTIONS", "render_report", "write_report"]
