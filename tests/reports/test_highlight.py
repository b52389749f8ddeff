from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from pellucid.reports.highlight import colour, tokens
from pellucid.reports.wording import visible


@given(st.text("abc_ .()\"'#\n0123<>&=xé", max_size=80))
def test_tokens_are_the_whole_text(text):
    assert "".join(token for _, token in tokens(text)) == text


@given(st.text(st.characters(exclude_characters="\r"), max_size=80))
def test_coloured_text_reads_as_before(text):
    assert (
        colour(text, {}).striptags().split() == Markup(Markup.escape(visible(text))).unescape().split() or "<" in text
    )


def test_classes_of_tokens():
    found = dict((token, kind) for kind, token in tokens('def f(x1): return 2.5 * x1 + g.h("s") # c'))
    assert found["def"] == found["return"] == "k"
    assert found["f"] == found["g.h"] == "f"
    assert found["2.5"] == "n"
    assert found['"s"'] == "s"
    assert found["# c"] == "c"
    assert found["x1"] == "w"


def test_everything_is_escaped_and_known_names_are_links():
    html = colour("y = layers.0.mlp(x) # <script>alert(1)</script>", {"layers.0.mlp": "part/layers.0.mlp"})
    assert '<a href="#part/layers.0.mlp">layers.0.mlp</a>' in html
    assert "<script>" not in html
    assert "<i" not in colour("return 1", {}, plain=True)
