"""delphi's detection protocol (EleutherAI/delphi, `scorers/classifier`), re-run from its description in our own words.

Five examples in a prompt after three worked ones, the explanation first; the reply is a Python list of zeros and ones,
and the first pair of square brackets in it counts. An example without a reply is left out, as there. Temperature 0.
Messages, examples and parsing are written for this benchmark; only the protocol is theirs.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence

from pellucid.words.explain.calls import PASSING, Received, call, client_of
from pellucid.words.explain.endpoint import Endpoint, Message
from pellucid.words.explain.replies import ReplyCache, request_key
from pellucid.words.scores.exams import Exam
from pellucid.words.scores.marks import Classified, classified

SHOWN = 5
TRIES = 4
SYSTEM = (
    'You are a careful researcher of language. You get a description of a latent of text, such as "pronouns for'
    ' women" or "text that complains", and then some examples of text. Decide which examples have the latent. For'
    " each example in turn give 1 if it does and 0 if it does not. Reply with a valid Python list and nothing else."
)
WORKED = (
    (
        "words for parts of a ship, above all the mast",
        (
            "the crew tied the sail to the mast before the storm",
            "she sold her bicycle to a neighbour last week",
            "a new kind of bread that needs no yeast at all",
            "they painted the mast and the hull in white",
            "the mayor opened the bridge in the afternoon",
        ),
        "[1,0,0,1,0]",
    ),
    (
        'the word "folks" after "hello"',
        (
            "the folks next door have a loud dog",
            "hello there, said the man at the gate",
            "we counted nine of them by noon",
            "rain is likely in the hills until Sunday",
            "nobody had told the driver about the road",
        ),
        "[0,0,0,0,0]",
    ),
    (
        '"in" before the name of a place',
        (
            "a small shop in Lisbon that repairs clocks",
            "he was born in Norway and never left",
            "a concert in Vienna on Friday",
            "the best soup in Osaka, she said",
            "winters in Canada are long",
        ),
        "[1,1,1,1,1]",
    ),
)


def detection(endpoint: Endpoint, cache: ReplyCache, label: str | None, exam: Exam) -> Classified:
    """The detection score of a label on an exam, by this protocol."""
    texts = ["".join(context.pieces) for context in exam.contexts]
    said: list[bool | None] = []
    for start in range(0, len(texts), SHOWN):
        some = texts[start : start + SHOWN]
        said += [None] * len(some) if label is None else _answers(endpoint, cache, label, some)
    return classified(said, [sample.active for sample in exam.samples])


def _answers(endpoint: Endpoint, cache: ReplyCache, label: str, texts: Sequence[str]) -> list[bool | None]:
    messages: list[Message] = [("system", SYSTEM)]
    for explanation, examples, reply in WORKED:
        messages += [("user", _asked(explanation, examples)), ("assistant", reply)]
    messages.append(("user", _asked(label, texts)))
    parameters = endpoint.parameters(5 * len(texts) + 10, None)
    key = request_key(messages, parameters)
    received = cache.find(key) or asyncio.run(_called(endpoint, messages, parameters))
    if received is None:
        return [None] * len(texts)
    cache.keep(key, received)
    found = re.search(r"\[.*?\]", received.text)
    try:
        answers = json.loads(found[0]) if found else []
    except json.JSONDecodeError:
        answers = []
    right = len(answers) == len(texts) and all(one in (0, 1) for one in answers)
    return [bool(one) for one in answers] if right else [None] * len(texts)


async def _called(endpoint: Endpoint, messages: Sequence[Message], parameters: dict[str, object]) -> Received | None:
    async with client_of(endpoint) as client:
        for _ in range(TRIES):
            got = await call(client, messages, parameters, endpoint.timeout)
            if isinstance(got, Received):
                return got
            if got.kind not in PASSING:
                break
    return None


def _asked(explanation: str, examples: Sequence[str]) -> str:
    lines = "\n".join(f"Example {i}: {text}" for i, text in enumerate(examples))
    return f"Latent explanation: {explanation}\n\nText examples:\n\n{lines}\n"
