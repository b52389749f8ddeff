"""Text for a terminal that nothing in it can steer: what has no shape of its own is written as an escape."""

from __future__ import annotations

from rich.text import Text

from pellucid.reports.wording import visible


def add(text: Text, piece: str, style: str = "") -> None:
    """Put a piece at the end; it is read as text, never as markup."""
    text.append(visible(piece), style or None)
