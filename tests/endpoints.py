"""A real HTTP server that plays an OpenAI-compatible endpoint, well or badly, for tests."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Act = Callable[["Handler", dict[str, Any]], None]
"""What the server does with one request."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(body)
            number = len(self.server.requests)
        self.server.act(self, body) if number > self.server.trials else said(self, trial_reply(body))

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, act: Act, trials: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.act, self.trials = act, trials
        self.requests: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    def handle_error(self, *_: object) -> None:
        """A client that hung up is what some tests are about."""


@contextlib.contextmanager
def serving(act: Act, *, trials: int = 1, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, Server]]:
    """The address of a server that answers the first `trials` requests well and then acts."""
    server = Server(act, trials)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}/v1", server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def key_in(body: dict[str, Any]) -> str:
    """The key that a question asks to repeat."""
    return re.findall(r'\{"key": "([0-9a-f]+)"', asked_in(body))[-1]


def asked_in(body: dict[str, Any]) -> str:
    """The question, without reminders."""
    return [m["content"] for m in body["messages"] if m["role"] == "user" and not m["content"].startswith("Try ")][-1]


def trial_reply(body: dict[str, Any]) -> str:
    found = re.search(r'\{"key": "([0-9a-f]+)"', asked_in(body))
    return json.dumps({"key": found[1] if found else ""})


def envelope(text: str | None, finish: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    whole = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
    return json.dumps(whole).encode()


def sent(handler: Handler, body: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def said(handler: Handler, text: str | None, finish: str = "stop") -> None:
    """A well-formed completion with this text."""
    sent(handler, envelope(text, finish))


def replying(text: str | Callable[[dict[str, Any]], str]) -> Act:
    """Answers everything with a text."""
    return lambda handler, body: said(handler, text if isinstance(text, str) else text(body))


def labelled(body: dict[str, Any], label: str = "a planted label") -> str:
    """The right form of reply to a question about a unit."""
    return json.dumps({"key": key_in(body), "label": label})


def dripping(handler: Handler, body: dict[str, Any]) -> None:
    whole = envelope(labelled(body))
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(whole)))
    handler.end_headers()
    with contextlib.suppress(OSError):
        for i in range(len(whole)):
            handler.wfile.write(whole[i : i + 1])
            handler.wfile.flush()
            time.sleep(0.05)


def hanging_up(handler: Handler, body: dict[str, Any]) -> None:
    whole = envelope(labelled(body))
    sent(handler, whole[: len(whole) // 2], length=len(whole))
    handler.close_connection = True


def endless(handler: Handler, body: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [{"message": {"content": "')
    with contextlib.suppress(OSError):
        for _ in range(400):
            handler.wfile.write(b"very " * 2000)
    handler.close_connection = True


def sleeping(seconds: float) -> Act:
    def act(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(seconds)
        with contextlib.suppress(OSError):
            said(handler, labelled(body))

    return act
