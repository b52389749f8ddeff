"""Evidence from a store says what evidence from all activations says."""

import numpy as np
import pytest
from planted_language import VOCABULARY, language_program

from pellucid.data.activations.capture import capture
from pellucid.data.activations.dense import dense
from pellucid.data.activations.manifest import Wanted
from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.ir.units import sites
from pellucid.words.explain.evidence import BANDS, unit_evidence
from pellucid.words.explain.stored import stored_evidence


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    program = language_program()
    ids = np.random.default_rng(1).integers(0, VOCABULARY, (24, 30)).astype(np.int32)
    corpus, site = Corpus(ids, tuple(f" {i}" for i in range(VOCABULARY))), sites(program, "mlp")[0]
    store = capture(program, corpus, [site], tmp_path_factory.mktemp("store") / "s", Wanted(top=6))
    return program, corpus, store, site


def test_contexts_strengths_and_share_are_those_of_the_activations(given):
    program, corpus, store, site = given
    ((_, activations),) = dense(program, corpus, [site])
    for index, found in enumerate(stored_evidence(program, corpus, store, [site[i] for i in range(4)])):
        assert found.name == str(site[index])
        assert [band for band, _ in found.bands] == [*BANDS]
        whole = unit_evidence(found.name, corpus.ids, corpus.pieces, activations[:, :, index])
        assert found.bands[0] == whole.bands[0], "the strongest contexts, tokens and strengths"
        assert found.share == pytest.approx(whole.share)
        assert all(max(context.strengths) == 0 for context in found.silent)


def test_of_another_corpus_there_is_no_evidence(given):
    program, corpus, store, site = given
    with pytest.raises(BadInput, match="another corpus"):
        [*stored_evidence(program, corpus.rows([0, 1]), store, [site[0]])]
