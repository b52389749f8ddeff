"""From a program and its verdicts to one self-contained HTML file."""
