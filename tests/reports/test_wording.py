import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.reports.wording import clip, number, percent, ratio, rounded_count, shorten, span, visible


@given(st.text(st.characters(), max_size=60))
def test_visible_text_can_be_written_and_hides_nothing(text):
    shown = visible(text)
    shown.encode("utf-8")
    assert not set(shown) & {"\u202e", "\u2066", "\u200b", "\ufeff", "\x00", "\x1b", "\u2028"}
    assert visible(shown) == shown


def test_visible_writes_what_has_no_shape_as_an_escape():
    assert visible("a\u202eb\ud800c\U000e0001") == r"a\u202eb\ud800c\U000e0001"
    assert visible("größe\n\tשלום") == "größe\n\tשלום"


@given(st.text(max_size=400), st.integers(20, 200))
def test_clipped_text_is_short_and_says_what_is_missing(text, limit):
    shown = clip(text, limit)
    assert len(shown) <= limit + 45
    assert shown == text or f"[{len(text) - limit:,} characters left out]" in shown
    assert len(shorten(text, limit)) <= limit


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (1e-9, "< 0.01 %"),
        (1 - 1e-9, "> 99.99 %"),
        (0.9996, "99.96 %"),
        (0.5, "50.0 %"),
        (math.nan, "undefined"),
    ],
)
def test_a_share_is_never_rounded_to_none_or_all(share, shown):
    assert percent(share) == shown


@pytest.mark.parametrize(
    ("x", "shown"),
    [
        (0.0, "0"),
        (3.2e-7, "3.20 × 10⁻⁷"),
        (1e-4, "10⁻⁴"),
        (-0.04567, "−0.0457"),
        (12.0, "12"),
        (0.996, "0.996"),
        (1.5e12, "1.50 × 10¹²"),
        (math.inf, "∞"),
        (math.nan, "not a number"),
    ],
)
def test_numbers_keep_three_digits(x, shown):
    assert number(x) == shown


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_number_is_near_the_number(x):
    shown = number(x).replace("−", "-").replace(",", "")
    mantissa, _, power = (
        f"1 × {shown}" if set(shown[2:]) & set("⁰¹²³⁴⁵⁶⁷⁸⁹") and "×" not in shown else shown
    ).partition(" × 10")
    exponent = int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))) if power else 0
    assert float(f"{mantissa}e{exponent}") == pytest.approx(x, rel=6e-3, abs=0.0) or abs(x) > 1e308


def test_counts_ratios_and_spans():
    assert rounded_count(134_515_008) == "134.5 M"
    assert ratio(1000.0, 10.0) == "100 times shorter"
    assert ratio(10.0, 25.0) == "2.5 times longer"
    assert ratio(5.0, 5.0) == "unchanged"
    assert span([3.0, math.nan, 1.0]) == "1 … 3"
    assert span([2.0, 2.0]) == "2"
    assert span([]) == "not a number"
