"""N-gram models: chances that sum to one, planted chains whose entropy they reach, and what they refuse."""

import dataclasses

import numpy as np
import pytest

from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.words.reading import ngrams
from pellucid.words.reading.ngrams import fit_ngrams


def chain(order: int, windows: int, seed: int, tokens: int = 6, context: int = 40) -> tuple[Corpus, float]:
    """Windows of a Markov chain of `order` with peaked transitions, and their mean loss under the chain itself."""
    transitions = np.random.default_rng(7).dirichlet(np.full(tokens, 0.15), size=tokens**order)
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, tokens, (windows, context))
    losses = []
    for t in range(order, context):
        state = np.zeros(windows, np.int64)
        for back in range(order, 0, -1):
            state = state * tokens + ids[:, t - back]
        ids[:, t] = (rng.random(windows)[:, None] > transitions[state].cumsum(1)).sum(1).clip(max=tokens - 1)
        if t >= ngrams.FIRST_SCORED:
            losses.append(-np.log(transitions[state, ids[:, t]]))
    return Corpus(ids.astype(np.int32), tuple(map(str, range(tokens)))), float(np.mean(losses))


@pytest.mark.parametrize("order", [1, 2])
def test_model_of_the_right_order_reaches_the_entropy_of_a_planted_chain(order: int) -> None:
    fit, tune, (verify, entropy) = chain(order, 400, 0)[0], chain(order, 80, 1)[0], chain(order, 80, 2)
    found = {n: fit_ngrams(fit, tune, n).losses(verify).mean() for n in (1, 2, 3)}
    assert found[order + 1] == pytest.approx(entropy, abs=0.03)
    assert found[order] > entropy + 0.2
    assert found[3] == pytest.approx(entropy, abs=0.06)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_chances_of_all_tokens_sum_to_one(order: int) -> None:
    fit, tune = chain(1, 6, 0, tokens=9)[0], chain(1, 3, 1, tokens=9)[0]
    model = fit_ngrams(fit, tune, order)
    start = chain(1, 5, 2, tokens=9, context=3)[0].ids
    totals = np.zeros(len(start))
    for token in range(9):
        windows = start.copy()
        windows[:, 2] = token
        totals += np.exp(-model.losses(Corpus(windows, fit.pieces)))
    np.testing.assert_allclose(totals, 1.0, atol=1e-9)


def test_counts_by_hand() -> None:
    ids = np.array([[0, 1, 2, 1, 2, 1, 1]])
    unigrams, bigrams = ngrams.count_levels(ids, 3, 2)
    assert dict(zip(bigrams.keys.tolist(), bigrams.counts.tolist(), strict=True)) == {1: 1, 4: 1, 5: 2, 7: 2}
    assert bigrams.totals.tolist() == [1, 3, 2]
    assert bigrams.kinds.tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert dict(zip(unigrams.keys.tolist(), unigrams.counts.tolist(), strict=True)) == {1: 3, 2: 1}, "distinct before"


def test_tuned_discounts_are_no_worse_than_the_closed_form_on_the_tune_part() -> None:
    fit, tune = chain(2, 30, 0)[0], chain(2, 30, 1)[0]
    model = fit_ngrams(fit, tune, 3)
    closed = np.stack([ngrams._closed_form(level.counts) for level in model.levels])
    assert model.losses(tune).mean() < dataclasses.replace(model, discounts=closed).losses(tune).mean()


def test_the_first_token_is_never_predicted() -> None:
    fit, tune = chain(1, 30, 0)[0], chain(1, 10, 1)[0]
    begun = [Corpus(np.concatenate([np.full((len(c), 1), 5), c.ids], 1), c.pieces, 5) for c in (fit, tune)]
    model = fit_ngrams(begun[0], begun[1], 1)
    assert model.levels[0].counts.sum() == fit.ids.size


def test_bad_input_is_refused() -> None:
    fit, tune = chain(1, 5, 0)[0], chain(1, 5, 1)[0]
    with pytest.raises(BadInput, match="order 4"):
        fit_ngrams(fit, tune, 4)
    with pytest.raises(BadInput, match="too short"):
        fit_ngrams(Corpus(fit.ids[:, :2], fit.pieces), tune, 3)
    with pytest.raises(BadInput, match="vocabulary"):
        fit_ngrams(fit, tune, 2).losses(Corpus(np.zeros((1, 5), np.int32), ("a",)))
