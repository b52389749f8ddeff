"""From a program and its verdicts to one self-contained HTML file."""

from pellucid.reports.page import report, write_report

__all__ = ["report", "write_report"]
