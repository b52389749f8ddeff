"""One call of an endpoint: what came back, or what went wrong.

The package's own retries are off, so that every request is counted. The whole call has one deadline, so a server that
drips byte by byte runs into it, and the body has a limit, so a server that never stops does, too.
"""

from __future__ import annotations

import asyncio
import email.utils
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import openai
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pellucid.words.explain.endpoint import Endpoint, Message

try:
    import httpx2 as httpx
except ImportError:  # openai before 3 stands on httpx
    import httpx  # type: ignore[import-not-found, no-redef]

BODY_LIMIT = 1_000_000
"""Bytes of a reply, envelope and all; what is longer is dropped."""

FaultKind = Literal[
    "refused", "timeout", "busy", "server", "closed", "certificate", "envelope", "too long", "rejected", "key", "absent"
]
PASSING: frozenset[str] = frozenset(
    {"refused", "timeout", "busy", "server", "closed", "certificate", "envelope", "too long"}
)
"""Faults after which the same call is made again."""


@dataclass(frozen=True)
class Received:
    """What the model said, tokens of the question and of the answer, and how many seconds it took."""

    text: str
    finished: str
    read: int
    written: int
    seconds: float


@dataclass(frozen=True)
class Fault:
    """Why nothing came back; `wait` is how many seconds the endpoint asked to be left alone."""

    kind: FaultKind
    detail: str
    wait: float | None = None


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Said(_Part):
    content: str | None = None


class _Choice(_Part):
    message: _Said
    finish_reason: str | None = None


class _Usage(_Part):
    prompt_tokens: int = Field(default=0, ge=0)
    completion_tokens: int = Field(default=0, ge=0)


class _Envelope(_Part):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class _TooLong(Exception):
    """The body is over the limit."""


def client_of(endpoint: Endpoint) -> openai.AsyncOpenAI:
    """The client of an endpoint, with no retries of its own."""
    return openai.AsyncOpenAI(
        base_url=endpoint.base_url,
        api_key=endpoint.key,
        max_retries=0,
        timeout=endpoint.timeout,
        default_headers={"Accept-Encoding": "identity"},
    )


async def call(
    client: openai.AsyncOpenAI, messages: Sequence[Message], parameters: Mapping[str, Any], timeout: float
) -> Received | Fault:
    """One request, no retries. It raises nothing that an endpoint can cause."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(timeout):
            body = await _body(client, messages, parameters)
    except (TimeoutError, openai.APITimeoutError):
        return Fault("timeout", f"no full reply within {timeout:g} s")
    except openai.APIStatusError as error:
        return _status(error)
    except openai.APIConnectionError as error:
        return _connection(error)
    except httpx.HTTPError as error:
        return Fault("closed", f"the reply broke off ({type(error).__name__})")
    except _TooLong:
        return Fault("too long", f"a reply of more than {BODY_LIMIT:,} bytes")
    except openai.OpenAIError as error:
        return Fault("envelope", type(error).__name__)
    return _opened(body, time.monotonic() - started)


async def _body(client: openai.AsyncOpenAI, messages: Sequence[Message], parameters: Mapping[str, Any]) -> bytes:
    said: Any = [{"role": role, "content": text} for role, text in messages]
    body = bytearray()
    async with client.chat.completions.with_streaming_response.create(messages=said, **parameters) as response:
        async for piece in response.iter_bytes():
            body += piece
            if len(body) > BODY_LIMIT:
                raise _TooLong
    return bytes(body)


def _opened(body: bytes, seconds: float) -> Received | Fault:
    try:
        envelope = _Envelope.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        return Fault("envelope", f"not a chat completion ({first['type']})")
    choice, usage = envelope.choices[0], envelope.usage or _Usage()
    finished = (choice.finish_reason or "")[:20]
    return Received(choice.message.content or "", finished, usage.prompt_tokens, usage.completion_tokens, seconds)


def _status(error: openai.APIStatusError) -> Fault:
    code = error.status_code
    if code == 429 or code == 503:
        return Fault("busy", f"status {code}", _wait(error.response.headers.get("retry-after")))
    if code >= 500 or code in (408, 409):
        return Fault("server", f"status {code}")
    if code in (401, 403):
        return Fault("key", f"status {code}: the key is refused; set PELLUCID_API_KEY")
    if code == 404:
        return Fault("absent", "status 404: no such address or model there")
    return Fault("rejected", f"status {code}: the request is refused")


def _wait(header: str | None) -> float | None:
    """Seconds of a Retry-After header, given as a number or as a date."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if seconds < float("inf") else None


def _connection(error: BaseException) -> Fault:
    cause: BaseException | None = error
    while cause is not None:
        text = str(cause)
        if isinstance(cause, ssl.SSLError) or "CERTIFICATE" in text or "[SSL" in text:
            return Fault("certificate", "TLS failed: the certificate is not trusted, or the address is not https")
        if isinstance(cause, httpx.RemoteProtocolError | httpx.ReadError):
            return Fault("closed", "the connection was closed before a reply")
        cause = cause.__cause__ or cause.__context__
    return Fault("refused", "no connection")
