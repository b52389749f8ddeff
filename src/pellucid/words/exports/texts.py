"""JSON that strict readers take: ASCII, no lone surrogates, no NaN; numbers as short as they can be."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

_LONE = re.compile("[\ud800-\udfff]")


def plain(text: str) -> str:
    """The text with lone surrogates, which strict readers of JSON refuse, written as the escapes they are (\\ud800)."""
    return text if text.isascii() else _LONE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def short(number: float) -> float:
    """The number with no more digits than a single precision one has."""
    return float(str(np.float32(number)))


def line_of(row: Any) -> str:
    """A value as one line of JSON in ASCII. Raises ValueError for numbers that JSON has not."""
    return json.dumps(row, ensure_ascii=True, allow_nan=False)
