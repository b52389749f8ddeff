"""Exams of units that are single words, and a server that judges labels such as "w3" by what they say."""

from __future__ import annotations

import json
import re

import numpy as np
from endpoints import asked_in, key_in

from pellucid.words.explain.asking import Asker, Patience
from pellucid.words.explain.endpoint import Endpoint
from pellucid.words.explain.replies import ReplyCache
from pellucid.words.scores.exams import exam_of

PIECES = tuple(f" w{i}" for i in range(50))


def exams(count=3):
    found = []
    for unit in range(count):
        ids = np.random.default_rng(unit).integers(0, 50, (60, 48)).astype(np.int32)
        ids[:20][ids[:20] == unit] = 49
        found.append(exam_of(f"u{unit}", ids, PIECES, (ids == unit).astype(np.float32), each=10))
    return found


def texts(body):
    return [
        line.split(". ", 1)[1].replace("*", "") for line in asked_in(body).splitlines() if re.match(r"\d+\. ", line)
    ]


def marks(body):
    lines = [line for line in asked_in(body).splitlines() if re.match(r"\d+\. ", line)]
    return [" ".join(re.findall(r"\*\*(.+?)\*\*", line)).split() for line in lines]


def label_in(body):
    return re.findall("<label>(.*)</label>", asked_in(body))[0]


def knowing(body):
    """A judge that takes a label such as "w3" at its word."""
    word = label_in(body)
    if '"active"' in asked_in(body):
        named = [[i, word, 10] for i, text in enumerate(texts(body), 1) if word in text.split()]
        return json.dumps({"key": key_in(body), "active": named})
    if "marked" in asked_in(body):
        answers = [int(all(one == word for one in found)) for found in marks(body)]
    else:
        answers = [int(word in text.split()) for text in texts(body)]
    return json.dumps({"key": key_in(body), "answers": answers})


def asker(address, folder, **more):
    return Asker(Endpoint(address, "m"), ReplyCache(folder), patience=Patience(again=1, retries=0, first=0.01), **more)
