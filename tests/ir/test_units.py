"""Sites are told by what the program does with a value; units round trip through their text."""

import dataclasses

import pytest
from planted_language import HEADS, HIDDEN, WIDTH, language_program

from pellucid.errors import BadInput
from pellucid.ir.graph import Block, Node, Ref, ValueType, Weight
from pellucid.ir.program import Function, Reading
from pellucid.ir.units import Site, Unit, parse_site, parse_unit, sites


@pytest.fixture(scope="module")
def program():
    return language_program()


def test_neurons_are_what_the_last_matrix_reads(program):
    first, second = sites(program, "mlp")
    assert (first.value, first.units, first.size, str(first)) == ("mul_19", HIDDEN, 1, "layers.0.mlp:hidden")
    assert second.value == "mul_20"


def test_heads_are_parts_of_what_the_output_matrix_reads(program):
    first = sites(program, "heads")[0]
    assert (first.value, first.units, first.size, str(first)) == ("w0", HEADS, WIDTH // HEADS, "layers.0.attn:heads")


def test_no_heads_where_nothing_was_merged(program):
    function = program["layers.0.attn"]
    body = function.reading("weights").body
    other = [dataclasses.replace(node, op="reshape") if node.op == "merge_heads" else node for node in body.nodes]
    reading = dataclasses.replace(function.readings[0], body=Block(body.inputs, tuple(other), body.outputs))
    changed = program.with_function(dataclasses.replace(function, readings=(reading,)))
    assert [str(site) for site in sites(changed, "heads")] == ["layers.1.attn:heads"]


def test_affine_layers_of_gpt2_count(program):
    function = program["layers.0.mlp"]
    body = function.reading("weights").body
    last = Node(("r0",), "affine", (Ref("mul_19"), Weight("down.0"), None))
    reading = dataclasses.replace(function.readings[0], body=Block(body.inputs, (*body.nodes[:-1], last), body.outputs))
    changed = program.with_function(dataclasses.replace(function, readings=(reading,)))
    assert str(sites(changed, "mlp")[0]) == "layers.0.mlp:hidden"


def test_latents_are_what_a_dictionary_gives(program):
    body = Block(("m0",), (Node(("latents",), "relu", (Ref("m0"),)),), ("latents",))
    made = Function(
        "layers.0.mlp.dictionary", "dictionary", "", ("m0",), ("latents",), (Reading("weights", body, "", 0),)
    )
    changed = dataclasses.replace(
        program.with_function(made), values={**program.values, "latents": ValueType("float32", ("batch", "seq", 5))}
    )
    assert [(str(site), site.units) for site in sites(changed, "latents")] == [("layers.0.mlp.dictionary:latents", 5)]


def test_inputs_and_outputs_by_pattern(program):
    assert [str(site) for site in sites(program, "outputs", "layers.1*")] == [
        "layers.1.attn:output",
        "layers.1.mlp:output",
    ]
    assert [site.value for site in sites(program, "inputs", "*.0.mlp:input")] == ["m0"]
    assert "network:input" not in [str(site) for site in sites(program, "inputs")]


def test_units_round_trip(program):
    for kind in ("mlp", "heads", "inputs", "outputs"):
        for site in sites(program, kind):
            unit = site[site.units - 1]
            assert parse_unit(program, str(unit)) == unit
            assert parse_site(program, str(site)).shown == site.shown


def test_the_tracers_name_is_understood(program):
    assert parse_unit(program, "layers.0.mlp:mul_19[3]") == Unit(Site("layers.0.mlp", "mul_19"), 3)
    assert parse_site(program, "layers.0.mlp:up0").units == HIDDEN
    assert parse_site(program, "layers.0.attn:w0").size == 1


def test_sites_are_ordered():
    assert sorted([Site("b", "x"), Site("a", "y"), Site("a", "x")]) == [Site("a", "x"), Site("a", "y"), Site("b", "x")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("layers.0.mlp", "not of the form"),
        ("layers.0.mlp:hidden", "not of the form"),
        ("layers.0.mlp:hidden[x]", "not of the form"),
        ("layers.0.mlp:hidden[12]", "use 0 to 11"),
        ("layers.9.mlp:hidden[1]", "no function"),
        ("layers.0.mlp:other[1]", "it has hidden, input, output"),
        ("layers.0.attn:q0[99999]", "use 0 to"),
    ],
)
def test_a_wrong_unit_is_refused(program, text, says):
    with pytest.raises(BadInput, match=says):
        parse_unit(program, text)


def test_no_match_names_examples(program):
    with pytest.raises(BadInput, match=r"no units match 'model\.\*'; there are, for example, layers\.0\.mlp:hidden"):
        sites(program, "mlp", "model.*")
    with pytest.raises(BadInput, match="the program has no latents; it has functions of kind network, attention, mlp"):
        sites(program, "latents")
    with pytest.raises(BadInput, match="use one of mlp, heads"):
        sites(program, "neurons")
