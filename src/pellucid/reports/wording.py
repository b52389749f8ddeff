"""How numbers and foreign text are written in the report.

Text that comes from a model, a file or a user may hold anything: control characters, direction overrides, lone
surrogates, a million letters. `visible` writes what has no shape of its own as an escape, so that what is shown is what
is there; `clip` keeps it short. HTML escaping is left to the template.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_NOTE = 40
NONE = "—"
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def visible(text: str) -> str:
    """The text with control, format, private and unassigned characters written as escapes; newlines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escape(char) if unicodedata.category(char) in _HIDDEN and char not in "\n\t" else char for char in text
    )


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def clip(text: str, limit: int) -> str:
    """The text, or its first and last characters with the number left out between them."""
    if len(text) <= limit + _NOTE:
        return text
    head = limit * 3 // 4
    return f"{text[:head]} … [{len(text) - limit:,} characters left out] … {text[head - limit :]}"


def shorten(name: str, limit: int = 48) -> str:
    """A name for a table or a link: its end says most, so the middle is left out."""
    if len(name) <= limit:
        return name
    tail = limit * 2 // 3
    return f"{name[: limit - tail - 1]}…{name[-tail:]}"


def count(n: int) -> str:
    """1234567 as 1,234,567."""
    return f"{n:,}"


def plural(n: int, noun: str) -> str:
    """A count with its noun: "1 verdict", "1,200 verdicts"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def rounded_count(n: float, unit: str = "") -> str:
    """A large number to three digits with a decimal prefix: 134515008 as 134.5 M."""
    for size, prefix in _PREFIXES:
        if abs(n) >= size:
            return f"{n / size:.{1 if abs(n) < 1000 * size else 0}f} {prefix}{unit}"
    return f"{n:.0f} {unit}".rstrip()


def percent(share: float) -> str:
    """A share as a percentage that never rounds to none or all when it is neither."""
    if not math.isfinite(share):
        return "undefined"
    if share in (0.0, 1.0):
        return f"{share:.0%}".replace("%", " %")
    if 0 < share < 1e-4:
        return "< 0.01 %"
    if 1 - 1e-4 < share < 1:
        return "> 99.99 %"
    digits = 2 if abs(share) < 0.001 or 0.9995 <= share < 1 else 1
    return f"{100 * share:.{digits}f} %"


def number(x: float, digits: int = 3) -> str:
    """A number to a few significant digits, powers of ten written out: 3.2 × 10⁻⁷."""
    if math.isnan(x):
        return "not a number"
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    if x == 0:
        return "0"
    if float(x).is_integer() and abs(x) < 1e7:
        return f"{x:,.0f}".replace("-", "−")
    if 1e-3 <= abs(x) < 1e6:
        return f"{x:,.{max(0, digits - 1 - math.floor(math.log10(abs(x))))}f}".replace("-", "−")
    if x == 10.0 ** round(math.log10(abs(x))):
        return f"10{str(round(math.log10(x))).translate(_SUPERSCRIPTS)}"
    mantissa, exponent = f"{x:.{digits - 1}e}".split("e")
    return f"{mantissa.replace('-', '−')} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def span(values: Iterable[float]) -> str:
    """The range of some numbers; one number when they are all written alike."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "not a number"
    low, high = number(min(known)), number(max(known))
    return low if low == high else f"{low} … {high}"


def ratio(before: float, after: float) -> str:
    """How much shorter or longer, in words."""
    if before <= 0 or after <= 0 or before == after:
        return "unchanged" if before == after else ""
    factor = before / after if before > after else after / before
    shown = "less than 1.01" if factor < 1.01 else f"{factor:,.0f}" if factor >= 100 else f"{factor:.3g}"
    return f"{shown} times {'shorter' if before > after else 'longer'}"


def amount(value: float, unit: str) -> str:
    """A number of a unit, "share" as a percentage; one that was not measured is a dash."""
    return NONE if math.isnan(value) else percent(value) if unit == "share" else number(value)
