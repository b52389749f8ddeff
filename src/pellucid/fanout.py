"""Fan-out: the tasks of a stage, one after another in this process or over the workers of a Ray cluster.

A stage hands over what all its tasks share, and the items; results come back in the order of the items. How the work
is cut into items never depends on how many workers there are, and every task runs with as many threads as this process,
so that a cluster of equal machines gives the same bytes as one of them alone. A worker that dies is replaced and its
task is run again. Everything else stays with this process: files, calls of an endpoint, their pace and their cap.

Ray moves tasks, arguments and results between our own processes by pickle. Nothing on disk is read that way, and who
may reach a cluster may run anything on it; the one that is started here takes a token that only its own processes know.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import os
import secrets
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from pellucid.errors import BadInput, CannotRun, PellucidError

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")

LOCAL = "local"
"""The address that stands for a cluster on this machine, started for one run."""

RETRIES = 3
"""So many times a task is run again whose worker died."""

AHEAD = 2
"""Tasks handed out for each that can run, so that no worker waits for this process."""

PATIENCE = 5.0
"""Seconds to wait for an address to answer."""


@runtime_checkable
class Fan(Protocol):
    """Runs a task over items and gives the results in their order, each as it is asked for.

    Attributes:
        apart: whether tasks run in other processes: on copies, and without the files and callbacks of this one.
    """

    @property
    def apart(self) -> bool:
        """See above."""
        ...

    def __call__(
        self, task: Callable[[Shared, Item], Result], shared: Shared, items: Iterable[Item]
    ) -> Iterator[Result]:
        """The results, in order."""
        ...


@dataclass(frozen=True)
class Here:
    """One task after another in this process: the next begins when the result of the last has been used."""

    apart: bool = False

    def __call__(
        self, task: Callable[[Shared, Item], Result], shared: Shared, items: Iterable[Item]
    ) -> Iterator[Result]:
        """The results, in order."""
        return (task(shared, item) for item in items)


HERE = Here()


@dataclass(frozen=True)
class RayFan:
    """Tasks on the Ray cluster that this process is connected to.

    Attributes:
        workers: tasks that can run at the same time.
        threads: of each task, as many CPUs are asked for.
        apart: see `Fan`.
    """

    workers: int
    threads: int = 1
    apart: bool = True

    def __call__(
        self, task: Callable[[Shared, Item], Result], shared: Shared, items: Iterable[Item]
    ) -> Iterator[Result]:
        """The results, in order. What is shared is sent once; when this ends early, what still runs is cancelled.

        Raises:
            PellucidError: what a task raised.
            CannotRun: a task was lost more than `RETRIES` times.
        """
        ray = _ray()
        name = getattr(task, "__name__", "task").strip("_")
        run = ray.remote(_run).options(num_cpus=self.threads, max_retries=RETRIES, name=name)
        held = [ray.put(ray.cloudpickle.dumps((task, shared)))]
        waiting: deque[Any] = deque()
        try:
            for item in items:
                if len(waiting) >= AHEAD * self.workers:
                    yield _result(ray, waiting.popleft())
                waiting.append(run.remote(_version(), self.threads, held, ray.cloudpickle.dumps(item)))
            while waiting:
                yield _result(ray, waiting.popleft())
        finally:
            for left in waiting:
                ray.cancel(left, force=True)


@contextmanager
def fan_at(address: str | None, workers: int | None = None, memory: int | None = None) -> Iterator[Fan]:
    """What tasks run on: this process, a Ray cluster on this machine for as long as the block lasts, or one elsewhere.

    Args:
        address: None for this process, "local", or "HOST:PORT" of the head of a cluster that this machine has joined
            (`ray start --address=HOST:PORT`), with the same pellucid on all its machines.
        workers: tasks at the same time, of a local cluster; by default as many as there are CPUs for.
        memory: bytes for what lies between processes, of a local cluster; by default Ray's own share.

    Raises:
        BadInput: Ray is not installed or in use already, nothing answers at the address, or no machine there has as
            many CPUs as a task has threads.
    """
    if address is None:
        yield HERE
        return
    ray, threads = _ray(), torch.get_num_threads()
    if ray.is_initialized():
        raise BadInput(f"--ray {address}: this process uses Ray already; call ray.shutdown() first, or pass a RayFan")
    if address == LOCAL:
        count = workers or max(1, len(os.sched_getaffinity(0)) // threads)
        settings: dict[str, Any] = {"num_cpus": count * threads, "include_dashboard": False}
        settings |= {} if memory is None else {"object_store_memory": memory}
    else:
        _check_answers(address)
        settings = {}
    _set_variables(address == LOCAL)
    try:
        _connect(ray, address, settings)
        yield RayFan(_slots(ray, address, threads), threads)
    finally:
        ray.shutdown()


# ---- in a worker


def _run(version: str, threads: int, held: list[Any], item: bytes) -> bytes:
    """A task, in a worker of the same version.

    What is shared, item and result travel as bytes, so that arrays are as writable as here: Ray would map them.
    """
    if version != _version():
        raise BadInput(
            f"a worker on {socket.gethostname()} has pellucid {_version()}, this process {version}; install the same"
        )
    torch.set_num_threads(threads)
    task, shared = _fetched(held[0])
    pickle = _ray().cloudpickle
    result: bytes = pickle.dumps(task(shared, pickle.loads(item)))
    return result


@lru_cache(maxsize=1)
def _fetched(held: Any) -> tuple[Callable[[Any, Any], Any], Any]:
    """What the tasks of a stage share, fetched and unpacked once in each worker."""
    ray = _ray()
    found: tuple[Callable[[Any, Any], Any], Any] = ray.cloudpickle.loads(ray.get(held))
    return found


# ---- in this process


def _result(ray: Any, waiting: Any) -> Any:
    try:
        return ray.cloudpickle.loads(ray.get(waiting))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, PellucidError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise CannotRun(
            f"Ray lost a task {RETRIES + 1} times ({type(error).__name__}); see that its machines stay up and have"
            " memory, and run the same again: what was done is kept"
        ) from error


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise BadInput("Ray is not installed; run pip install 'pellucid[ray]', or leave --ray out") from error


def _version() -> str:
    return importlib.metadata.version("pellucid")


def _check_answers(address: str) -> None:
    """Check that something speaks HTTP/2 at an address, as Ray does: left to itself, Ray waits there for minutes."""
    host, _, port = address.rpartition(":")
    if "/" in host or not host or not port.isdigit():
        raise BadInput(f"--ray {address}: no address of a cluster; write HOST:PORT of its head, or {LOCAL}")
    try:
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as link:
            link.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
            answer = link.recv(9)
    except (OSError, OverflowError) as error:
        raise BadInput(
            f"--ray {address}: no cluster answers there ({error}); run ray start --head on its first machine and"
            f" ray start --address=HOST:PORT on this one, or use --ray {LOCAL}"
        ) from error
    if answer[3:4] != b"\4":
        raise BadInput(f"--ray {address}: something else than Ray answers there; write HOST:PORT of the cluster's head")


def _connect(ray: Any, address: str, settings: Mapping[str, Any]) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **settings)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        cause = " ".join(str(error).split())[:200]
        raise BadInput(
            f"--ray {address}: no connection ({cause}); this machine has to be one of the cluster"
        ) from error


def _slots(ray: Any, address: str, threads: int) -> int:
    """How many tasks of so many threads run on the cluster at a time."""
    found = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    if not any(cpus >= threads for cpus in found):
        raise BadInput(
            f"--ray {address}: a task here has {threads} threads, but its {len(found)} machines have"
            f" {max(found, default=0)} CPUs at most; set OMP_NUM_THREADS lower, for the single machine as well"
        )
    return sum(cpus // threads for cpus in found)


def _set_variables(local: bool) -> None:
    """Variables that Ray reads once in a process, where the user has not set them.

    It tells nobody of its use and leaves the variables of accelerators alone; a cluster that is started here wants a
    token of who comes.
    """
    wanted = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    own = {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    for name, value in (wanted | (own if local else {})).items():
        os.environ.setdefault(name, value)
