import dataclasses

import pytest

from pellucid.errors import BadInput


def test_code_that_still_reads_its_weights_carries_none_of_them(program):
    """The planted code of the cell reads cell.w, as its exact reading does."""
    ledger = program.ledger
    assert ledger.parameter_count == 6 + 12 + 4
    assert ledger.share("weights") == 1.0
    assert ledger.share("code") == 0.0


def _without_weights(program):
    """The same, where the code of the cell reads no weight."""
    reading = program["cell"].readings[1]
    first = reading.body.nodes[0]
    nodes = (first.with_changes(op="concat", args=((first.args[0],), -1)), *reading.body.nodes[1:])
    body = dataclasses.replace(reading.body, nodes=nodes)
    return program.with_function(program["cell"].with_reading(dataclasses.replace(reading, body=body)))


def test_code_without_weights_carries_them(program):
    lighter = _without_weights(program)
    assert lighter.ledger.share("code") == pytest.approx(6 / 22)
    assert lighter.ledger.share("weights") == pytest.approx(16 / 22)


def test_the_exact_program_is_all_weights(program):
    plain = program.with_function(dataclasses.replace(program["cell"], chosen="weights"))
    assert plain.ledger.share("weights") == 1.0
    assert plain.ledger.share("weights", by="units") == 1.0


def test_units_are_the_rows_of_the_weights_that_nodes_read(program):
    """The head's linear map and its mask have 4 each, the cell 3; the planted code still reads those of the cell."""
    assert program.ledger.unit_count == 4 + 4 + 3
    assert program.ledger.share("code", by="units") == 0.0
    assert _without_weights(program).ledger.share("code", by="units") == pytest.approx(3 / 11)


def test_shares_by_loss_have_to_be_measured_first(program):
    assert program.ledger.share("code", by="loss") == 0.5
    with pytest.raises(BadInput, match="not been measured"):
        program.with_notes(loss_shares={}).ledger.share("code", by="loss")
    with pytest.raises(BadInput, match="'bytes' is not a measure"):
        program.ledger.share("code", by="bytes")
