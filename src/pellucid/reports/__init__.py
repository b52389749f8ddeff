"""From a program and its verdicts to one self-contained HTML file."""

from pellucid.reports.beside import compare, comparison, write_comparison
from pellucid.reports.page import report, write_report

__all__ = ["compare", "comparison", "report", "write_comparison", "write_report"]
