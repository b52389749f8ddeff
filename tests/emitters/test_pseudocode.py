"""The names under which emitters offer pseudocode."""

from emitters.planted_programs import layers

from pellucid.emitters.pseudocode import function_text, program_text


def test_one_function_or_the_whole() -> None:
    made = layers()
    assert function_text(made, "blocks.1.mlp").startswith("def blocks.1.mlp(x: ")
    assert program_text(made, 0) == made.text(0)
