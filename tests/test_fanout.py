"""Tasks on a local Ray cluster of two workers: the same files as in one process, also when workers are killed."""

from __future__ import annotations

import gc
import hashlib
import importlib
import os
import signal
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from endpoints import closed_port, replying, serving
from endpoints import labelled as labelled_reply
from planted_language import VOCABULARY, language_program

from pellucid import fanout
from pellucid.data.activations.capture import capture
from pellucid.data.activations.manifest import Wanted
from pellucid.data.corpus import Corpus, split_corpus
from pellucid.dictionaries.training import Recipe
from pellucid.errors import BadInput, CannotRun
from pellucid.fanout import HERE, RayFan, fan_at
from pellucid.ir.units import sites
from pellucid.labelling import labeller_at
from pellucid.words.finding import Effort, labelled, ruled
from pellucid.words.heads.fitting import Course
from pellucid.words.labels.grow import Growth

LITTLE = Effort(
    recipe=Recipe(latents=12, active=3, epochs=2, batch=64), growth=Growth(leaves=4), course=Course(steps=6, windows=4),
    tuning=None, threads=1,
)  # fmt: skip
MEMORY = 100_000_000


@pytest.fixture(scope="module")
def cluster():
    """Two workers of one thread; Ray leaves what it started to the garbage collector, which is called here."""
    pytest.importorskip("ray")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fan_at("local", workers=2, memory=MEMORY) as fan:
            yield fan
        gc.collect()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def corpus():
    pieces = (*(f" w{i}" for i in range(VOCABULARY - 2)), ".", ",")
    return Corpus(np.random.default_rng(0).integers(0, VOCABULARY, (60, 16)), pieces)


@dataclass(frozen=True)
class Killing:
    """A fan with which some kinds of task kill the worker that the first of them runs in."""

    fan: RayFan
    marks: Path
    kinds: tuple[str, ...] = ("_taught", "_shard")
    apart: bool = True

    def __call__(self, task, shared, items):
        mark = self.marks / task.__name__
        deadly = task.__name__ in self.kinds

        def once(shared, item):
            if deadly and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return task(shared, item)

        return self.fan(once, shared, items)


def multiplied(shared, item):
    return shared * item


def test_results_come_in_the_order_of_the_items_from_several_workers(cluster):
    def slow_first(shared, item):
        time.sleep(0.3 if item == 0 else 0.0)
        return shared * item, os.getpid(), torch.get_num_threads()

    found = list(cluster(slow_first, 3, range(12)))
    assert [value for value, _, _ in found] == [3 * item for item in range(12)]
    assert len({pid for _, pid, _ in found} - {os.getpid()}) == 2
    assert {threads for _, _, threads in found} == {torch.get_num_threads()}


def test_arrays_are_as_writable_in_a_worker_as_here(cluster):
    def written(shared, item):
        shared[0] = item[0] = 1.0
        return item

    big = np.zeros(200_000)
    assert all(found.flags.writeable for found in cluster(written, big, [big.copy(), big.copy()]))


def test_an_error_of_a_task_is_that_error(cluster):
    def wrong(shared, item):
        raise BadInput(f"item {item}: no good")

    with pytest.raises(BadInput, match="item 7: no good"):
        list(cluster(wrong, None, [7]))


def test_a_task_that_kills_every_worker_ends_in_one_line(cluster, monkeypatch):
    monkeypatch.setattr(fanout, "RETRIES", 1)

    def deadly(shared, item):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(CannotRun, match="lost a task"):
        list(cluster(deadly, None, [0]))


def test_what_runs_is_cancelled_when_nobody_wants_the_rest(cluster):
    def endless(shared, item):
        time.sleep(600 * item)
        return item

    started = time.monotonic()
    results = cluster(endless, None, [0, 1, 1])
    assert next(results) == 0
    results.close()
    assert list(cluster(lambda shared, item: shared * item, 2, [1, 2])) == [2, 4]
    assert time.monotonic() - started < 60


def made(fan, corpus, output):
    """The folder of dictionaries, labels and rules that a description keeps, by SHA-256."""
    program, parts = language_program(), split_corpus(corpus, 0)
    place = output / "words"
    place.mkdir(parents=True)
    names = [name for name, function in program.functions.items() if function.kind == "mlp"]
    labelled(program, names, parts, place, LITTLE, fan, lambda stage: None)
    ruled(program, tuple(program.functions), parts.fit, place, LITTLE, fan, lambda stage: None)
    capture(program, corpus, sites(program, "mlp"), place / "activations", Wanted(shard=16, sample=200), fan=fan)
    return {
        str(file.relative_to(place)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(place.rglob("*"))
        if file.is_file()
    }


@pytest.mark.timeout(900)
def test_two_workers_keep_the_same_files_as_one_process_even_if_some_are_killed(cluster, corpus, tmp_path):
    here = made(HERE, corpus, tmp_path / "here")
    assert {name.split("/")[0] for name in here} == {"dictionaries", "labels", "heads", "activations"}
    assert made(cluster, corpus, tmp_path / "ray") == here
    marks = tmp_path / "marks"
    marks.mkdir()
    assert made(Killing(cluster, marks), corpus, tmp_path / "killed") == here
    assert {mark.name for mark in marks.iterdir()} == {*Killing.kinds}


def test_the_cap_on_calls_holds_while_workers_work(cluster, corpus, tmp_path):
    from pellucid.words.explain.asking import Question
    from pellucid.words.explain.schemas import UnitReply

    questions = [Question(f"unit {i}", (("user", f"{i}"),), UnitReply, 50) for i in range(12)]
    with serving(replying(labelled_reply)) as (address, server):
        asker = labeller_at(address, "m", tmp_path / "out", max_calls=5)
        capture(language_program(), corpus, sites(language_program(), "mlp"), tmp_path / "kept", fan=cluster)
        asker.ask(questions)
        assert len(server.requests) == 5


# ---- no cluster


def test_no_address_is_this_process():
    with fan_at(None) as fan:
        assert (fan, fan.apart) == (HERE, False)
        assert list(fan(multiplied, 2, range(3))) == [0, 2, 4]


def test_without_ray_a_line_says_what_to_install(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(BadInput, match=r"pellucid\[ray\]"), fan_at("local"):
        pass


@pytest.mark.parametrize("address", ["nonsense", "ray://head:10001", "head:port", ":1"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(BadInput, match="HOST:PORT"):
        fanout._check_answers(address)


def test_an_address_where_nothing_answers_is_refused_at_once():
    started = time.monotonic()
    with pytest.raises(BadInput, match="no cluster answers"):
        fanout._check_answers(f"127.0.0.1:{closed_port()}")
    with serving(replying(labelled_reply)) as (address, _), pytest.raises(BadInput, match="answers there"):
        fanout._check_answers(address.removeprefix("http://").partition("/")[0])
    assert time.monotonic() - started < 30


def test_machines_with_fewer_cpus_than_a_task_has_threads_are_refused(cluster):
    import ray

    with pytest.raises(BadInput, match="has 64 threads"):
        fanout._slots(ray, "local", 64)


def test_a_process_that_uses_ray_already_is_told_so(cluster):
    with pytest.raises(BadInput, match="uses Ray already"), fan_at("local"):
        pass
