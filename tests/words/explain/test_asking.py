"""Cache, cap, order, dialects, and runs that are killed and started again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from endpoints import asked_in, key_in, labelled, replying, said, sent, serving

from pellucid.errors import BadInput
from pellucid.words.explain.asking import Asker, Patience
from pellucid.words.explain.calls import Received
from pellucid.words.explain.endpoint import Endpoint, endpoint_from_environment
from pellucid.words.explain.evidence import Context, InterfaceEvidence, ModuleEvidence, UnitEvidence
from pellucid.words.explain.explaining import cost_of, explain, explain_questions
from pellucid.words.explain.replies import ReplyCache, request_key


def units(count):
    return [
        UnitEvidence(f"u{i}", (("strongest", (Context(("the ", f"cat{i}", " sat"), (0, 10, 0)),)),))
        for i in range(count)
    ]


def own_label(body):
    """A label that only depends on the unit."""
    return labelled(body, f"it is {re.findall(r'cat[0-9]+', asked_in(body))[0]}")


def opened(address, folder, **more):
    return Asker(Endpoint(address, "m"), ReplyCache(folder), patience=Patience(again=1, retries=1, first=0.01), **more)


def test_answers_come_in_order_and_are_remembered(tmp_path):
    with serving(replying(own_label), trials=0) as (address, server):
        first = explain(opened(address, tmp_path), units(30))
        again = opened(address, tmp_path)
        assert explain(again, units(30)) == first
    assert [e.label for e in first] == [f"it is cat{i}" for i in range(30)]
    assert len(server.requests) == again.tally.remembered == 30
    assert again.tally.calls == 0


def test_the_cache_serves_without_an_endpoint(tmp_path):
    with serving(replying(own_label), trials=0) as (address, _):
        explain(opened(address, tmp_path), units(3))
    assert [e.label for e in explain(opened(address, tmp_path), units(3))] == [f"it is cat{i}" for i in range(3)]


def test_a_bad_reply_is_remembered_and_asked_again_in_other_words(tmp_path):
    def second_time(body):
        return own_label(body) if "Try 2" in body["messages"][-1]["content"] else "Sure! Here is the label: cats"

    with serving(replying(second_time), trials=0) as (address, server):
        first = explain(opened(address, tmp_path), units(1))
        assert explain(opened(address, tmp_path), units(1)) == first
    assert first[0].label == "it is cat0"
    assert len(server.requests) == 2
    assert "Sure" not in json.dumps(server.requests[1])


def test_cap_counts_every_request_and_more_calls_go_on_from_there(tmp_path):
    with serving(replying(own_label), trials=0) as (address, server):
        capped = opened(address, tmp_path, max_calls=4)
        first = explain(capped, units(10))
        assert sum(e.label is not None for e in first) == 4 == len(server.requests)
        assert {e.missing for e in first if e.label is None} == {"the cap of 4 calls is reached"}
        assert all(e.label for e in explain(opened(address, tmp_path, max_calls=6), units(10)))
    assert len(server.requests) == 10


def test_retries_count_against_the_cap(tmp_path):
    with serving(lambda h, b: sent(h, b"", 500), trials=0) as (address, server):
        explain(opened(address, tmp_path, max_calls=3), units(10))
    assert len(server.requests) == 3


def test_cost_is_told_before_and_falls_with_what_is_remembered(tmp_path):
    with serving(replying(own_label), trials=0) as (address, server):
        asker = opened(address, tmp_path)
        asker.pace = 100.0
        before = cost_of(asker, explain_questions(units(10)))
        assert len(server.requests) == 0
        explain(asker, units(4))
        after = cost_of(asker, explain_questions(units(10)))
    assert (before.calls, after.calls, after.remembered) == (10, 6, 4)
    assert 5000 < before.read < 8000
    assert before.written == 10 * 80
    assert before.seconds == pytest.approx((before.read + 8 * 800) / 100)
    assert "6 calls (4 more are answered on disk)" in str(after)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"text": "pwned"}', None])
def test_a_damaged_reply_on_disk_is_asked_anew(damage, tmp_path):
    with serving(replying(own_label), trials=0) as (address, server):
        explain(opened(address, tmp_path), units(1))
        (file,) = tmp_path.glob("*/*.json")
        file.write_bytes(file.read_bytes().replace(b"cat0", b"dog0") if damage is None else damage)
        assert explain(opened(address, tmp_path), units(1))[0].label == "it is cat0"
    assert len(server.requests) == 2


def test_a_cache_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        serving(replying(own_label), trials=0) as (address, _),
        pytest.raises(BadInput, match="what was answered is kept") as error,
    ):
        explain(opened(address, tmp_path / "file"), units(3))
    assert "\n" not in str(error.value)


def test_keys_are_of_model_messages_and_parameters():
    base = ((("user", "a"),), {"model": "m", "max_tokens": 3})
    others = [
        ((("user", "b"),), base[1]), ((("system", "a"),), base[1]), (base[0], {"model": "n", "max_tokens": 3}),
        (base[0], {"model": "m", "max_tokens": 4}), ((("user", "a"), ("user", "a")), base[1]),
    ]  # fmt: skip
    assert len({request_key(*one) for one in [base, *others]}) == 6
    assert request_key(*base) == request_key((("user", "a"),), {"max_tokens": 3, "model": "m"})


def test_a_key_of_an_account_is_nowhere(tmp_path):
    with serving(replying(own_label), trials=0) as (address, _):
        endpoint = Endpoint(address, "m", key="sk-secret")
        explain(Asker(endpoint, ReplyCache(tmp_path)), units(1))
    assert "sk-secret" not in repr(endpoint)
    assert not any(b"sk-secret" in file.read_bytes() for file in tmp_path.glob("*/*"))


@pytest.mark.parametrize(("refuses", "dialect"), [
    (lambda body: "response_format" in body, (False, "max_tokens", True)),
    (lambda body: "max_tokens" in body, (True, "max_completion_tokens", True)),
    (lambda body: "max_tokens" in body or "temperature" in body, (True, "max_completion_tokens", False)),
])  # fmt: skip
def test_the_trial_finds_the_dialect(refuses, dialect, tmp_path):
    def act(handler, body):
        sent(handler, b"{}", 400) if refuses(body) else said(handler, own_label(body) if "cat" in str(body) else "x")

    with serving(act, trials=0) as (address, _):
        asker = Asker.open(Endpoint(address, "m"), tmp_path)
        assert (
            asker.endpoint.dialect.schema,
            asker.endpoint.dialect.limit,
            asker.endpoint.dialect.temperature,
        ) == dialect
        assert explain(asker, units(1))[0].label == "it is cat0"


def test_the_schema_that_is_sent_holds_the_key(tmp_path):
    with serving(replying(own_label), trials=0) as (address, server):
        explain(opened(address, tmp_path), units(1))
    (request,) = server.requests
    schema = request["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["key"]["const"] in asked_in(request)
    assert schema["additionalProperties"] is False


def test_within_a_running_loop(tmp_path):
    import asyncio

    async def notebook():
        return explain(opened(address, tmp_path), units(2))

    with serving(replying(own_label), trials=0) as (address, _):
        assert [e.label for e in asyncio.run(notebook())] == ["it is cat0", "it is cat1"]


def test_endpoint_of_the_environment(monkeypatch):
    for name in ("PELLUCID_ENDPOINT", "OPENAI_BASE_URL", "PELLUCID_MODEL", "PELLUCID_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BadInput, match="PELLUCID_ENDPOINT"):
        endpoint_from_environment()
    monkeypatch.setenv("PELLUCID_ENDPOINT", "http://127.0.0.1:1/v1")
    with pytest.raises(BadInput, match="PELLUCID_MODEL"):
        endpoint_from_environment()
    monkeypatch.setenv("PELLUCID_MODEL", "m")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert endpoint_from_environment() == Endpoint("http://127.0.0.1:1/v1", "m", "k")
    for address in ("127.0.0.1:1", "file:///etc/passwd", "http://", "http://user:secret@host/v1"):
        with pytest.raises(BadInput, match="endpoint:") as error:
            endpoint_from_environment(address)
        assert "secret" not in str(error.value)


def test_cached_seconds_are_those_of_the_call(tmp_path):
    cache = ReplyCache(tmp_path)
    cache.keep("ab" * 32, Received("text", "stop", 3, 4, 5.5))
    assert cache.find("ab" * 32) == Received("text", "stop", 3, 4, 5.5)
    assert cache.find("cd" * 32) is None


RUN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_asking import opened, table, units
from pellucid.words.explain.explaining import explain
print(table(explain(opened(sys.argv[1], Path(sys.argv[2])), units(24))))
"""


def table(found):
    return "\n".join(f"{e.part}: {e.label} ({e.missing})" for e in found)


def test_killed_twice_and_resumed_is_the_same_table(tmp_path):
    def slow_and_moody(handler, body):
        number = int(re.findall(r"cat([0-9]+)", asked_in(body))[0])
        time.sleep(0.04)
        again = "Try 2" in body["messages"][-1]["content"]
        said(handler, own_label(body) if number % 3 or (again and number % 2) else "no JSON at all")

    def start(folder):
        places = (str(Path(__file__).parent), str(Path(__file__).parents[2]))
        code = RUN.replace("sys.argv[3])", "sys.argv[3]); sys.path.insert(0, sys.argv[4])")
        return subprocess.Popen(
            [sys.executable, "-c", code, address, str(folder), *places], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    with serving(slow_and_moody, trials=0) as (address, server):
        whole = table(explain(opened(address, tmp_path / "whole"), units(24)))
        asked = len(server.requests)
        for stop in (signal.SIGKILL, signal.SIGINT):
            before = len(server.requests)
            run = start(tmp_path / "killed")
            while len(server.requests) < before + 8:
                time.sleep(0.01)
            run.send_signal(stop)
            run.communicate()
            assert run.returncode != 0
        assert start(tmp_path / "killed").communicate()[0].strip() == whole
        spent = len(server.requests) - asked
    assert whole.count("\n") == 23
    assert 0 < whole.count("no valid reply") < 12
    assert spent <= asked + 2 * 4, "nothing is asked twice but the calls that were under way"


def test_modules_and_interfaces_get_a_name_and_a_label(tmp_path):
    def reply(body):
        return json.dumps({"key": key_in(body), "name": "adder", "label": "adds  two digits"})

    parts = [
        ModuleEvidence("m", (("m.a", "adds"),)),
        InterfaceEvidence("i", (("m.a", "adds"),), (("n", "shows"),), 3),
        units(1)[0],
    ]
    with serving(replying(reply), trials=0) as (address, _):
        module, interface, unit = explain(opened(address, tmp_path), parts)
    assert (module.name, module.label) == (interface.name, interface.label) == ("adder", "adds two digits")
    assert (unit.name, unit.label) == (None, None), "a reply with a further field is another form"
