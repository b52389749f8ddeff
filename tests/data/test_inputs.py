"""Everything that `gather` takes, and everything that it refuses."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from pellucid.data import bounds
from pellucid.data.domain import Domain
from pellucid.data.inputs import Inputs, gather
from pellucid.errors import BadInput


def values(inputs, argument=0):
    return [row.tolist() for batch in inputs for row in batch.arrays[argument]]


def noise(rng, n):
    return rng.standard_normal((n, 3))


X = torch.arange(12.0).reshape(4, 3)

GIVEN = {
    "tensor": X,
    "array": X.numpy(),
    "tuple": (X,),
    "list of batches": [X[:1], X[1:]],
    "generator": (X[i : i + 1] for i in range(4)),
    "loader": DataLoader(TensorDataset(X), batch_size=3),
    "domain": Domain.of(X),
}


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_every_kind_of_inputs_gives_the_same_samples(given):
    inputs = gather(given)
    assert values(inputs) == X.tolist()
    assert len(inputs) == 4
    assert inputs.arguments == (0,)
    assert inputs.kind == ("domain" if isinstance(given, Domain) else "sampled")


def test_a_mapping_is_called_by_name():
    inputs = gather({"ids": np.array([[1, 2]]), "mask": np.array([[True, False]])})
    (batch,) = inputs
    assert (lambda ids, mask: (ids.tolist(), mask.tolist()))(*batch.args, **batch.kwargs) == ([[1, 2]], [[True, False]])


def test_inputs_pass_through_checked():
    inputs = gather(X)
    assert gather(inputs) is inputs
    with pytest.raises(BadInput, match="float32 cannot be ids"):
        gather(inputs, vocabulary=5)


def test_batches_are_of_bounded_size_and_one_shape():
    inputs = gather([torch.zeros(n, length) for n, length in [(5, 2), (4, 3), (3, 2)]])
    shapes = [tuple(batch.args[0].shape) for batch in inputs.batches(rows=6)]
    assert shapes == [(6, 2), (2, 2), (4, 3)]


def test_an_endless_generator_is_bounded_and_the_description_says_so():
    inputs = gather((torch.full((3, 2), float(i)) for i in itertools.count()), limit=7)
    assert len(inputs) == 7
    assert "stopped at the limit of 7 samples" in inputs.description


def test_a_stream_of_large_samples_is_bounded_in_memory(monkeypatch):
    monkeypatch.setattr(bounds, "MEMORY", 1000)
    assert len(gather(torch.zeros(1, 100) for _ in itertools.count())) == 3
    assert len(gather(lambda rng, n: rng.random((n, 100)))) == 256


def test_a_large_array_is_drawn_from_with_the_seed():
    first, again, other = (gather(np.arange(1000), limit=20, seed=seed) for seed in (5, 5, 6))
    assert values(first) == values(again) != values(other)
    assert len(set(values(first))) == 20
    assert max(values(first)) > 500


def test_a_large_array_is_not_converted_as_a_whole():
    given = np.zeros((100, 2), dtype=np.uint8)
    vast = np.lib.stride_tricks.as_strided(given, shape=(10**12, 2), strides=(0, 1), writeable=False)
    assert len(gather({"x": vast, "y": torch.zeros(1, 3).expand(10**12, 3)}, limit=10)) == 10


def test_arrays_of_unequal_length_are_refused_beyond_the_limit_too():
    with pytest.raises(BadInput, match="argument 0: 30, argument 1: 40"):
        gather((torch.zeros(30), torch.zeros(40)), limit=5)


def test_what_is_no_plain_array_is_drawn_from_as_well():
    assert len(gather(([[1, 2]] * 9, X[:1].expand(9, 3)), limit=5)) == 5
    with pytest.raises(BadInput, match="masked"):
        gather(np.ma.masked_array(np.zeros(9), mask=np.ones(9)), limit=5)


def test_a_sampler_gives_the_asked_number_and_the_same_ones_for_the_same_seed():
    first, again, other = (gather(noise, limit=300, seed=seed) for seed in (1, 1, 2))
    assert len(first) == 300
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert len({tuple(row) for row in values(first)}) == 300


def test_a_sampler_may_return_ragged_batches_and_names():
    domain = Domain.sequences(range(3), length=range(1, 6))
    inputs = gather(domain.sample, limit=500)
    assert len(inputs) == 500
    assert {len(row) for row in values(inputs)} >= {3, 4, 5}
    assert gather(lambda rng, n: {"x": rng.random((n, 2))}, limit=10).arguments == ("x",)


def test_a_domain_is_whole_or_refused():
    domain = Domain.sequences([0, 1], length=10)
    inputs = gather(domain, floating=True)
    assert (inputs.kind, len(inputs)) == ("domain", 1024)
    assert inputs.example.args[0].dtype == torch.float32
    with pytest.raises(BadInput, match=r"1,024 samples: above the limit of 1,000.*domain\.sample"):
        gather(domain, limit=1000)
    with pytest.raises(BadInput, match=r"about 10\*\*30"):
        gather(Domain.sequences([0, 1], length=100))
    assert gather(domain.sample, limit=10).kind == "sampled"


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        (torch.zeros(1, 5), (2, 5)),
        (torch.zeros(2, 5), (2, 5)),
        (torch.zeros(9, 5), (2, 5)),
        (torch.zeros(9, 2), (3, 2)),
        (torch.zeros(9, 2, 3), (4, 2, 3)),
        (torch.zeros(2, 2), (2, 2)),
        ([torch.zeros(1, 9), torch.zeros(3, 4), torch.zeros(3, 7)], (2, 7)),
        (Domain.sequences([0, 1], length=range(1, 9), width=2), (3, 8, 2)),
        (Domain.product([7]), (2, 1)),
    ],
)
def test_the_example_is_small_and_does_not_fix_the_batch_axis(given, shape):
    assert tuple(gather(given).example.args[0].shape) == shape


def test_take_draws_distinct_samples_with_a_seed():
    inputs = gather([torch.arange(50.0).reshape(50, 1), torch.arange(60.0).reshape(30, 2)])
    part = inputs.take(20, seed=1)
    assert len(part) == 20
    assert {len(row) for row in values(part)} == {1, 2}
    assert all(row in values(inputs) for row in values(part))
    assert len({tuple(row) for row in values(part)}) == 20
    assert values(part) == values(inputs.take(20, seed=1)) != values(inputs.take(20, seed=2))
    assert inputs.take(80) is inputs


def test_a_part_of_a_domain_is_no_proof():
    inputs = gather(Domain.product(range(9), range(9)))
    assert inputs.take(81).kind == "domain"
    assert (inputs.take(20).kind, len(inputs.take(20))) == ("sampled", 20)


def test_fingerprints_follow_the_samples():
    assert gather(X).fingerprint == gather([X[:2], X[2:]]).fingerprint
    assert gather(X).fingerprint != gather(X + 1).fingerprint


@pytest.mark.parametrize(
    ("vocabulary", "cause"),
    [
        (5, "argument 'input_ids': id 5 is outside the vocabulary of 5 ids .0 to 4."),
        ({"pos": 1}, "argument 'pos': id -1 is outside"),
        ({"mask": 2}, "argument 'mask': bool cannot be ids"),
        ({"ids": 2}, "`vocabulary` names argument 'ids', but the inputs have argument 'pos', argument 'input_ids'"),
    ],
)
def test_ids_outside_the_vocabulary(vocabulary, cause):
    given = {"pos": np.array([[0], [-1]]), "input_ids": np.array([[5], [0]]), "mask": np.array([[True], [True]])}
    with pytest.raises(BadInput, match=cause):
        gather(given, vocabulary=vocabulary)
    assert len(gather(given, vocabulary={"input_ids": 6})) == 2


def test_ids_of_a_domain_are_checked_without_enumerating():
    with pytest.raises(BadInput, match="id 9 is outside the vocabulary of 9 ids"):
        gather(Domain.sequences(range(10), length=6), vocabulary=9)


def test_arguments_are_those_of_the_network():
    assert gather(X, arguments=["x"]).arguments == (0,)
    with pytest.raises(BadInput, match="no argument is called 'y', the network takes x, mask"):
        gather({"y": X}, arguments=["x", "mask"])
    with pytest.raises(BadInput, match="2 arguments by position, but the network takes x: leave out"):
        gather((X, X), arguments=["x"])


def unrepeatable(rng, n, counter=itertools.count()):  # noqa: B008
    return np.full((n, 1), next(counter)) + rng.random((n, 1))


def failing(rng, n):
    raise KeyError("lost")


def failing_later():
    yield X
    raise RuntimeError("disk\nfailed")


SAMPLERS = [
    (failing, "failed when asked for 256 samples .KeyError: 'lost'"),
    (lambda rng, n: None, "returned nothing"),
    (lambda rng, n: [], "returned 0"),
    (lambda rng, n: np.zeros((n, 1)), "the same sample 10,000 times"),
    (lambda rng, n: rng.random((n + 1, 2)), "asked for 256 samples, it returned 257"),
    (lambda rng, n: rng.random(2), "asked for 256 samples, it returned 2:"),
    (lambda rng, n: rng.random((n, 2)) * np.nan, "sampler, argument 0: NaN"),
    (lambda rng, n: rng.random((n,) + (1,) * int(rng.integers(1, 5))), "batches differ"),
    (lambda rng: rng.random(3), "TypeError"),
    (unrepeatable, "draws other samples from the same rng"),
    (lambda rng, n: "text", "text needs a tokenizer"),
]


@pytest.mark.parametrize(("sampler", "cause"), SAMPLERS, ids=[cause for _, cause in SAMPLERS])
def test_samplers_that_do_not_keep_the_rules(sampler, cause):
    with pytest.raises(BadInput, match=cause) as caught:
        gather(sampler)
    assert "sampler" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ([], "an iterable: no samples"),
        (iter(()), "an iterable: no samples"),
        ([X, X.long()], "batches differ"),
        ([1, 2], "inputs, batch 0: int is not"),
        ([[1.0, 2.0]], "inputs, batch 0, argument 0: a single number"),
        (["text"], "inputs, batch 0: text needs a tokenizer"),
        (failing_later(), "inputs, batch 1: the iterable failed .RuntimeError: disk failed"),
        (torch.nn.Linear(1, 1), "a module: give the model first"),
        (None, "NoneType is none of the known kinds"),
        (3, "int is none of the known kinds"),
        (np.zeros((0, 4)), "empty"),
        ({"x": np.array(["a"])}, "inputs, argument 'x': dtype"),
    ],
)
def test_refusals(given, cause):
    with pytest.raises(BadInput, match=cause) as caught:
        gather(given)
    assert "\n" not in str(caught.value)


def test_a_limit_of_nothing_and_an_absent_floating_argument_are_refused():
    with pytest.raises(BadInput, match="limit 0"):
        gather(X, limit=0)
    with pytest.raises(BadInput, match="`floating` names argument 'y'"):
        gather(X, floating={"y"})


def test_inputs_are_plain_data():
    inputs = Inputs((gather(X).example,), "two rows")
    assert (len(inputs), inputs.kind, inputs.description) == (2, "sampled", "two rows")
