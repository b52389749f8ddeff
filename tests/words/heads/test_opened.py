"""Programs with their attention opened: the same network, its real patterns, and rules in their place."""

import numpy as np
import pytest
import torch
from planted_language import VOCABULARY, language_program

import pellucid
from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.words.heads.capture import capture_heads
from pellucid.words.heads.fitting import Course, fit_heads
from pellucid.words.heads.measures import agreement, uniform
from pellucid.words.heads.opened import open_program
from pellucid.words.heads.ruled import only, ruling, run_ruled, window_losses
from pellucid.words.heads.scene import grammar_of
from pellucid.words.heads.tuning import tune_heads

PIECES = tuple(f" t{i}." if i % 7 == 3 else f" t{i}" for i in range(VOCABULARY))


def corpus(count: int, seed: int = 0, vocabulary: int = VOCABULARY) -> Corpus:
    ids = np.random.default_rng(seed).integers(1, vocabulary, (count, 16)).astype(np.int32)
    ids[:, 0] = 0
    return Corpus(ids, PIECES if vocabulary <= VOCABULARY else tuple(f" t{i}" for i in range(vocabulary)), 0)


def traced(name: str):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    if name == "llama":
        config = transformers.LlamaConfig(
            vocab_size=40, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, initializer_range=0.3,
        )  # fmt: skip
        model = transformers.LlamaForCausalLM(config).eval()
    else:
        config = transformers.GPT2Config(
            vocab_size=40, n_embd=24, n_layer=2, n_head=3, n_positions=32, initializer_range=0.3
        )
        model = transformers.GPT2LMHeadModel(config).eval()
    graph = pellucid.trace(model, (), {"input_ids": torch.arange(12).reshape(2, 6)})
    return model, pellucid.structure(graph, pellucid.partition(graph))


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def network(request):
    return traced(request.param)


def test_opened_attention_is_the_network_itself(network):
    model, program = network
    ids = next(corpus(4, vocabulary=40).batches(4))
    with torch.no_grad():
        wanted = model(ids).logits
        found = run_ruled(open_program(program), ids, {})
        some = run_ruled(open_program(program, [3, 30, 7]), ids, {})
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(some, wanted[..., [3, 30, 7]], atol=1e-4, rtol=1e-4)


def test_captured_patterns_are_those_of_the_network(network):
    model, program = network
    given = corpus(5, vocabulary=40)
    seen = capture_heads(program, given, queries=6)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        real = model(torch.from_numpy(given.ids.astype(np.int64)), output_attentions=True).attentions
    assert len(seen.patterns) == 2
    for layer, pattern in enumerate(seen.patterns.values()):
        for window, queries in enumerate(seen.queries):
            np.testing.assert_allclose(pattern[window], real[layer][window][:, queries].numpy(), atol=2e-3)
    assert (seen.queries > 0).all()


def test_a_layer_of_real_patterns_changes_nothing(network):
    _, program = network
    opened, given = open_program(program), corpus(3, vocabulary=40)
    patterns: dict[str, torch.Tensor] = {}

    def hook(function, attended):
        patterns[function] = attended.pattern()
        return attended.mixed(patterns[function])

    with torch.no_grad():
        opened.run(next(given.batches(3)), hook)
    for function in opened.functions:
        same = window_losses(opened, given, lambda ids, function=function: {function: patterns[function]})
        np.testing.assert_allclose(same, window_losses(opened, given), atol=1e-4)


def test_rules_of_a_network_beat_uniform_ones_and_tuning_helps():
    program = language_program(layers=2)
    parts = [corpus(count, seed=seed, vocabulary=9) for seed, count in enumerate((120, 96, 48))]
    grammar = grammar_of(parts[0], clusters=9, listed=2)
    seen, unseen = capture_heads(program, parts[0], 15), capture_heads(program, parts[2], 15)
    fitted = fit_heads(seen, grammar, Course(steps=40, windows=12, rate=0.1))
    assert agreement(fitted, unseen).divergence.mean() < 0.5 * agreement(uniform(fitted), unseen).divergence.mean()
    poor = fit_heads(seen, grammar, Course(steps=10, windows=12), ("distance",))
    tuned = tune_heads(program, poor, parts[1], Course(steps=20, windows=12, rate=0.05))
    opened = open_program(program)
    best, better, worst = (_away(opened, parts[2], heads) for heads in (fitted, tuned, poor))
    assert best < 0.5 * worst
    assert better < 0.7 * worst
    one = only(opened.functions[:1], ruling(fitted))
    assert _patterns(one, parts[2]) == {opened.functions[0]}


def _patterns(rule, given) -> set[str]:
    return set(rule(next(given.batches(2))))


def _away(opened, given, heads) -> float:
    """Divergence of the ruled network's prediction from the network's own."""
    ids = next(given.batches(48))
    with torch.no_grad():
        wanted = run_ruled(opened, ids, {}).log_softmax(-1)
        found = run_ruled(opened, ids, ruling(heads)(ids)).log_softmax(-1)
    return float((wanted.exp() * (wanted - found)).sum(-1).mean())


def test_keys_by_token_are_means_without_the_first_place():
    program, given = language_program(), corpus(6)
    seen = capture_heads(program, given, queries=3)
    opened, found = open_program(program), []

    def hook(function, attended):
        found.append(attended.k)
        return attended.mixed(attended.pattern())

    with torch.no_grad():
        opened.run(next(given.batches(6)), hook)
    means = seen.dealt["layers.0.attn"][2]
    token = int(means.tokens[means.counts.argmax()])
    where = torch.from_numpy(given.ids == token)
    where[:, 0] = False
    wanted = found[0].permute(0, 2, 1, 3)[where].mean(0)
    np.testing.assert_allclose(means.means[:, list(means.tokens).index(token)], wanted.numpy(), atol=1e-5)


def test_what_cannot_be_opened():
    program = language_program(layers=0)
    with pytest.raises(BadInput, match="no function of it has attention"):
        open_program(program)
