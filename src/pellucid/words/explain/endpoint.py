"""An OpenAI-compatible endpoint: where it is, which model, how it is to be asked; tried once before anything else.

Address, model and key come from arguments or from the environment: PELLUCID_ENDPOINT or OPENAI_BASE_URL,
PELLUCID_MODEL, PELLUCID_API_KEY or OPENAI_API_KEY. A server of one's own mostly needs no key. The trial asks for one
small reply, and finds out in which dialect the endpoint wants to be asked: with a JSON schema or without, `max_tokens`
or `max_completion_tokens`, with a temperature or without.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pellucid.errors import BadInput

Message = tuple[str, str]
"""Role and text."""


@dataclass(frozen=True)
class Dialect:
    """How an endpoint wants to be asked.

    Attributes:
        schema: it takes `response_format` with a JSON schema.
        limit: its name for the most tokens of a reply.
        temperature: it takes a temperature of zero.
    """

    schema: bool = True
    limit: str = "max_tokens"
    temperature: bool = True


DIALECTS = (
    Dialect(),
    Dialect(schema=False),
    Dialect(limit="max_completion_tokens"),
    Dialect(limit="max_completion_tokens", temperature=False),
    Dialect(schema=False, limit="max_completion_tokens", temperature=False),
)
"""In the order in which they are tried."""


@dataclass(frozen=True)
class Endpoint:
    """Where a language model answers.

    Attributes:
        base_url: its address, mostly ending in /v1.
        model: the name of the model there.
        key: of the account; never printed, never part of a cache key.
        timeout: seconds for one call, from sending to the last byte.
        concurrency: how many calls run at the same time.
        dialect: see there; `Asker.open` finds it out.
    """

    base_url: str
    model: str
    key: str = field(default="none", repr=False)
    timeout: float = 120.0
    concurrency: int = 4
    dialect: Dialect = Dialect()

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInput(f"endpoint: {self.base_url!r} is no address; give one such as http://127.0.0.1:8080/v1")
        if parts.username or parts.password:
            raise BadInput("endpoint: the address holds a user or a password; give the key as PELLUCID_API_KEY")
        if not self.model:
            raise BadInput("endpoint: no model is named; give --model or set PELLUCID_MODEL")
        if self.timeout <= 0 or self.concurrency < 1:
            raise BadInput("endpoint: timeout and concurrency have to be above zero")

    def parameters(self, limit: int, schema: Mapping[str, Any] | None) -> dict[str, Any]:
        """What is sent beside the messages, in the endpoint's dialect."""
        sent: dict[str, Any] = {"model": self.model, self.dialect.limit: limit}
        if self.dialect.temperature:
            sent["temperature"] = 0.0
        if self.dialect.schema and schema is not None:
            form = {"name": "reply", "schema": dict(schema), "strict": False}
            sent["response_format"] = {"type": "json_schema", "json_schema": form}
        return sent


def endpoint_from_environment(
    base_url: str | None = None, model: str | None = None, *, timeout: float = 120.0, concurrency: int = 4
) -> Endpoint:
    """The endpoint that arguments, or else environment variables, name (see the module).

    Raises:
        BadInput: there is no address or no model.
    """
    given = os.environ
    address = base_url or given.get("PELLUCID_ENDPOINT") or given.get("OPENAI_BASE_URL")
    if not address:
        raise BadInput(
            "endpoint: no address; give --endpoint or set PELLUCID_ENDPOINT (such as http://127.0.0.1:8080/v1)"
        )
    key = given.get("PELLUCID_API_KEY") or given.get("OPENAI_API_KEY") or "none"
    return Endpoint(address, model or given.get("PELLUCID_MODEL", ""), key, timeout, concurrency)
