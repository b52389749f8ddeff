"""Replies on disk, by content: one small file for each request that was answered.

The key is the SHA-256 of model, messages and parameters in canonical JSON. A file appears by one rename, so a process
that is killed leaves whole files only; a file that is damaged all the same counts as absent and is written anew.
Nothing of the endpoint's address or key is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pellucid.errors import BadInput
from pellucid.words.explain.calls import Received
from pellucid.words.explain.endpoint import Message

_RECEIVED = TypeAdapter(Received)


def request_key(messages: Sequence[Message], parameters: Mapping[str, Any]) -> str:
    """The SHA-256 of a request, in hex."""
    whole = {"messages": [list(message) for message in messages], "parameters": dict(parameters)}
    text = json.dumps(whole, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class ReplyCache:
    """A folder of replies."""

    folder: Path

    def find(self, key: str) -> Received | None:
        """What was answered to this request, if it was."""
        try:
            data = json.loads(self._file(key).read_text(encoding="utf-8"))
            if data.pop("digest") != _digest(data):
                return None
            return _RECEIVED.validate_python(data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, AttributeError, TypeError, ValidationError):
            return None

    def keep(self, key: str, received: Received) -> None:
        """Write a reply down.

        Raises:
            BadInput: the folder cannot be written (disk full, no permission); what is in it stays good.
        """
        data = asdict(received)
        data["digest"] = _digest(data)
        file = self._file(key)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(dir=file.parent, prefix=".part-")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as out:
                    json.dump(data, out)
                os.replace(part, file)
            except BaseException:
                Path(part).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise BadInput(
                f"reply cache {self.folder}: {error.strerror or 'cannot be written'}; make room or name another folder,"
                " then run again: what was answered is kept"
            ) from error

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(data), sort_keys=True).encode()).hexdigest()
