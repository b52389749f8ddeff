"""Questions and answers: cached, concurrent, retried with back-off, capped, and missing where no valid reply came.

A question is asked with its messages as they are. When the reply does not parse it is asked again, with a line that
says so; every completed reply is kept, bad ones too, so that a run that is killed and started again goes exactly the
same way. Faults of the endpoint are not kept: the same call is made again after 0.5 s, 1 s, 2 s … or after what the
endpoint asked for, and a 429 holds all calls back. When many questions in a row are lost to the endpoint, it is down,
and the rest is missing at once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import openai

from pellucid.errors import BadInput
from pellucid.words.explain.calls import PASSING, Fault, Received, call, client_of
from pellucid.words.explain.endpoint import DIALECTS, Endpoint, Message
from pellucid.words.explain.replies import ReplyCache, request_key
from pellucid.words.explain.schemas import NotAReply, R, Reply, for_question, parsed

T = TypeVar("T")

MISSING_EXIT_CODE = 3
"""What a command ends with when an answer is missing."""

WRITTEN_COUNTS = 8
"""So many tokens read take about as long as one written."""

LOADING, LOADING_RETRIES = frozenset({"busy"}), 7
"""The fault after which the trial is made again, and how often: a server that is still loading its model."""

_TRIAL = "7c1d09"


@dataclass(frozen=True)
class Question(Generic[R]):
    """What is asked about one part: messages, the form of the reply, and the most tokens that it may have."""

    about: str
    messages: tuple[Message, ...]
    form: type[R]
    limit: int
    accept: Callable[[R], str | None] | None = None
    """A further check of a parsed reply: why it will not do, or None."""


@dataclass(frozen=True)
class Answer(Generic[R]):
    """The reply to a question, or why it is missing; `seconds` and tokens are of all its calls, remembered or made."""

    about: str
    reply: R | None
    missing: str | None
    tries: int
    seconds: float = 0.0
    read: int = 0
    written: int = 0


@dataclass(frozen=True)
class Patience:
    """How often and how long.

    Attributes:
        again: how often a question is asked again when its reply does not parse.
        retries: how often a call is made again after a fault of the endpoint.
        first: seconds of the first back-off; it doubles.
        longest: seconds of the longest back-off; an endpoint that asks for more is not waited for.
        lost: so many questions lost to the endpoint in a row mean that it is down.
    """

    again: int = 2
    retries: int = 4
    first: float = 0.5
    longest: float = 60.0
    lost: int = 6


@dataclass
class Tally:
    """What was spent: requests sent, replies remembered, tokens read and written, seconds of calls, faults by kind."""

    calls: int = 0
    remembered: int = 0
    read: int = 0
    written: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)


class _Lost(Exception):
    """A call came to nothing; the message says why."""

    def __init__(self, why: str, fault: Fault | None = None) -> None:
        super().__init__(why)
        self.fault = fault


@dataclass
class Asker:
    """Asks an endpoint; holds the cache, the cap on calls and the tally of one run.

    Attributes:
        endpoint: see there.
        cache: where replies are kept.
        max_calls: requests that may be sent, retries included; None for no cap.
        patience: see there.
        told: is called with (done, all) after each question.
        tally: what was spent so far.
        pace: tokens per second, where the trial has measured it (a written one counts as WRITTEN_COUNTS).
    """

    endpoint: Endpoint
    cache: ReplyCache
    max_calls: int | None = None
    patience: Patience = Patience()
    told: Callable[[int, int], None] | None = None
    tally: Tally = field(default_factory=Tally)
    pace: float | None = None
    _quiet_until: float = 0.0
    _lost_in_a_row: int = 0

    @classmethod
    def open(
        cls, endpoint: Endpoint, folder: Path, *, max_calls: int | None = None, patience: Patience | None = None
    ) -> Asker:
        """An asker whose endpoint has answered one small question, in the first dialect that it takes.

        Raises:
            BadInput: the endpoint is down, refuses the key, or does not know the model.
        """
        calm = patience or Patience()
        wrong: Fault | None = None
        for dialect in DIALECTS:
            asker = cls(dataclasses.replace(endpoint, dialect=dialect), ReplyCache(folder), max_calls, calm)
            wrong = _run(asker._trial())
            if wrong is None:
                return asker
            if wrong.kind != "rejected":
                break
        assert wrong is not None
        raise BadInput(
            f"endpoint {endpoint.base_url}, model {endpoint.model!r}: {wrong.detail}; start it, or correct its address,"
            " model or key, before the run"
        )

    def ask(self, questions: Sequence[Question[R]]) -> tuple[Answer[R], ...]:
        """The answers, in the order of the questions.

        Raises:
            BadInput: the cache cannot be written; everything answered so far is kept.
        """
        return _run(self._ask(questions))

    def remembers(self, question: Question[Any]) -> bool:
        """Whether the first reply to this question is on disk."""
        return self.cache.find(self._key(question.messages, question)) is not None

    def _key(self, messages: Sequence[Message], question: Question[Any]) -> str:
        return request_key(messages, self.endpoint.parameters(question.limit, question.form.model_json_schema()))

    async def _trial(self) -> Fault | None:
        question = Question("trial", _trial_messages(), for_question(Reply, _TRIAL), 24)
        async with client_of(self.endpoint) as client:
            try:
                got = await self._persist(client, question.messages, question, LOADING, LOADING_RETRIES)
            except _Lost as lost:
                return lost.fault
        if got.seconds > 0 and got.read + got.written > 0:
            self.pace = (got.read + WRITTEN_COUNTS * got.written) / got.seconds
        return None

    async def _ask(self, questions: Sequence[Question[R]]) -> tuple[Answer[R], ...]:
        gate = asyncio.Semaphore(self.endpoint.concurrency)
        done = 0
        async with client_of(self.endpoint) as client:

            async def one(question: Question[R]) -> Answer[R]:
                nonlocal done
                async with gate:
                    answer = await self._answer(client, question)
                done += 1
                if self.told is not None:
                    self.told(done, len(questions))
                return answer

            return tuple(await asyncio.gather(*(one(question) for question in questions)))

    async def _answer(self, client: openai.AsyncOpenAI, question: Question[R]) -> Answer[R]:
        """Ask until a reply parses, at most 1 + `again` times."""
        why, seconds, read, written = "", 0.0, 0, 0
        for tries in range(1, self.patience.again + 2):
            messages = question.messages if tries == 1 else (*question.messages, _reminder(tries, why))
            try:
                received = await self._reply(client, messages, question)
            except _Lost as lost:
                return Answer(question.about, None, str(lost), tries, seconds, read, written)
            seconds, read, written = seconds + received.seconds, read + received.read, written + received.written
            try:
                reply = parsed(received.text, question.form)
                refused = question.accept(reply) if question.accept is not None else None
                if refused is None:
                    return Answer(question.about, reply, None, tries, seconds, read, written)
                why = refused
            except NotAReply as error:
                why = "it was cut off at its limit" if received.finished == "length" else str(error)
        return Answer(question.about, None, f"no valid reply: {why}", tries, seconds, read, written)

    async def _reply(self, client: openai.AsyncOpenAI, messages: Sequence[Message], question: Question[R]) -> Received:
        """What the cache or the endpoint says, retried after faults. Raises _Lost."""
        key = self._key(messages, question)
        if (kept := self.cache.find(key)) is not None:
            self.tally.remembered += 1
            return kept
        got = await self._persist(client, messages, question, PASSING, self.patience.retries)
        self.cache.keep(key, got)
        return got

    async def _persist(
        self,
        client: openai.AsyncOpenAI,
        messages: Sequence[Message],
        question: Question[Any],
        passing: Set[str],
        retries: int,
    ) -> Received:
        """Call until something comes back, again after faults of the kinds that pass. Raises _Lost."""
        attempt = 0
        while True:
            await asyncio.sleep(max(0.0, self._quiet_until - time.monotonic()))
            self._refuse_more()
            got = await self._sent(client, messages, question)
            if isinstance(got, Received):
                self._lost_in_a_row = 0
                return got
            wait = self.patience.first * 2**attempt if got.wait is None else got.wait
            if got.kind not in passing or wait > self.patience.longest or attempt == retries:
                self._lost_in_a_row += got.kind in PASSING
                raise _Lost(f"{got.kind}: {got.detail}", got)
            attempt += 1
            if got.kind == "busy":
                self._quiet_until = max(self._quiet_until, time.monotonic() + wait)
            else:
                await asyncio.sleep(wait)

    def _refuse_more(self) -> None:
        if self._lost_in_a_row >= self.patience.lost:
            raise _Lost(f"the endpoint is down ({self._lost_in_a_row} questions lost in a row)")
        if self.max_calls is not None and self.tally.calls >= self.max_calls:
            raise _Lost(f"the cap of {self.max_calls} calls is reached")

    async def _sent(
        self, client: openai.AsyncOpenAI, messages: Sequence[Message], question: Question[Any]
    ) -> Received | Fault:
        self.tally.calls += 1
        parameters = self.endpoint.parameters(question.limit, question.form.model_json_schema())
        got = await call(client, messages, parameters, self.endpoint.timeout)
        if isinstance(got, Fault):
            self.tally.faults[got.kind] += 1
        else:
            self.tally.read += got.read
            self.tally.written += got.written
            self.tally.seconds += got.seconds
        return got


def _trial_messages() -> tuple[Message, ...]:
    return (("user", f'Reply with this JSON object and nothing else: {{"key": "{_TRIAL}"}}'),)


def _reminder(tries: int, why: str) -> Message:
    return (
        "user",
        f"Try {tries}: the reply before this one was of no use ({why}). Reply with the JSON object that was asked for,"
        " and nothing else.",
    )


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, in a thread of its own where a loop runs already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as apart:
        return apart.submit(asyncio.run, work).result()
