"""A text becomes a task: its characters by how common they are, its last tenth held out."""

from dataclasses import replace

import pytest
import torch

from pellucid import BadInput
from pellucid.train import Modularity, train
from pellucid.train.characters import PLAN, characters, encoded, parts, windows


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes((b"the quick brown fox\n" * 400) + bytes(range(32, 127)) * 4)
    return path


def test_common_characters_have_places_of_their_own(text):
    places = encoded(text)
    raw = text.read_bytes()
    assert places.max() == 63
    assert places[0] == places[raw.index(b"t", 1)]
    assert len({int(places[raw.index(byte)]) for byte in (b"t", b"h", b"e", b" ", b"\n")}) == 5
    rare = {int(places[position]) for position, byte in enumerate(raw) if byte in b"{|}~"}
    assert rare == {63}


def test_windows_are_followed_by_their_next_character(text):
    places = encoded(text)
    inputs, targets = windows(places, torch.Generator().manual_seed(0), 5)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    fitted, held = parts(places)
    assert torch.equal(torch.cat([fitted, held]), places)
    assert len(held) == -(-len(places) // 10)


def test_a_gpt_comes_apart_evenly_but_for_what_it_reads(text):
    found = train(characters(text), plan=replace(PLAN, steps=30, warm=0.4, severed=0.5))
    start = 0
    for size in found.blocks.values():
        assert found.division.labels[start : start + size].sum() == size // 2
        start += size
    modularity = Modularity(found.model, (torch.zeros(1, 8, dtype=torch.int64),))
    modularity.adopt(found.division.labels)
    assert found.figures.interface == pytest.approx(modularity.interface)
    assert found.figures.interface < 0.25


def test_bad_texts(tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("to be")
    for given, told in ((tmp_path / "none.txt", "cannot be read"), (short, "5 characters")):
        with pytest.raises(BadInput, match=told):
            characters(given)
