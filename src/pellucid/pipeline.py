"""The way through the house: a network goes in, a program that was run and checked comes out.

load → trace → partition → structure → code → emit → verify → ledger → report
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from pathlib import Path

from torch import nn

from pellucid.code.methods import METHODS, TOGETHER
from pellucid.code.propose import find_code
from pellucid.code.together import find_together
from pellucid.data import Inputs, gather, split
from pellucid.data.sample_texts import TEXTS
from pellucid.emitters.files import emit
from pellucid.emitters.python import dialect_of
from pellucid.errors import BadInput
from pellucid.ir.directory import staged
from pellucid.ir.graph import Graph
from pellucid.ir.interpret import Values
from pellucid.ir.notes import Verdict
from pellucid.ir.program import Program
from pellucid.ir.regions import RegionTree
from pellucid.lift.load import Network, load
from pellucid.lift.trace import TOLERANCE, call_network, trace
from pellucid.lift.trained import inputs_of
from pellucid.modules.partition import partition
from pellucid.modules.structure import structure
from pellucid.modules.worth import worth
from pellucid.reports import write_report
from pellucid.verdicts import verify_directory, write_verdicts

Model = nn.Module | Network | str | PathLike[str]
Progress = Callable[[str], None]

SAMPLES_TO_FIT = 512
"""Code is looked for on at most this many samples of the *fit* split."""

SAMPLES_TO_SEE = 8192
"""What values come in at all is looked up in at most this many."""

MARGIN = 0.1
"""From this share of the bar on, rounding in another order counts as too large: other inputs may enlarge it further."""

ROUNDING = (
    "this network enlarges float32 rounding: summed in numpy's order its output moves by more than 1e-5, so that "
    "program.py computes with torch, as the network does"
)

BIG = 5_000_000
"""From this many parameters on, only parts of a network are candidates for code, and few samples are run."""


def decompile(
    model: Model,
    inputs: object = None,
    *,
    output: str | PathLike[str] | None = None,
    regions: Callable[[Graph], RegionTree] = partition,
    budget: float = 60.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Program:
    """Turn a network into a program, look for code, emit it, run the emitted file, and say what it is worth.

    Args:
        model: a live module, a Hugging Face folder, a directory that `pellucid train` wrote (with its inputs), a GGUF
            file, a `.pt2` export, or "smollm2".
        inputs: what the network runs on: tensors, arrays, a mapping, an iterable (for a language model: of texts, too),
            a sampler, a `data.Domain`, or a file; with a tokenizer None stands for fifty short texts.
        output: where to write program.py, weights.safetensors, program.json, verdicts.json and report.html.
        regions: the hierarchy to build the program on; the network's own nesting unless told otherwise.
        budget: seconds for the search for code.
        seed: of the splits into *fit*, *describe* and *verify*, and of everything drawn.
        progress: told each stage as it begins.

    Returns:
        The program with its verdicts in `program.notes`.

    Raises:
        PellucidError: one line that names the cause and the remedy; nothing is left half written.
    """
    say = progress or (lambda stage: None)
    say("load")
    network = load(model)
    with _destination(output) as directory:
        samples = read_inputs(network, inputs_of(model) if inputs is None else inputs, seed)
        splits = split(samples, seed)
        say("trace")
        graph = trace(network, samples.example.args, samples.example.kwargs)
        say(f"structure: {len(graph.block.nodes)} operations")
        program = structure(graph, regions(graph))
        program = dataclasses.replace(program, fingerprint=network.fingerprint, source=network.source)
        small = program.ledger.parameter_count <= BIG
        calls = _calls(program, splits.fit, SAMPLES_TO_FIT if small else 8)
        if small and program.regions is not None:
            program = program.with_notes(modules=worth(graph, program.regions, calls[0], seed))
        say(f"code: {len(program.functions)} functions")
        started = time.monotonic()
        program = find_code(program, calls, METHODS, budget, lambda name: say(f"code: {name}"))
        if small:
            say("code: parts together")
            left = started + budget - time.monotonic()
            program = find_together(program, _calls(program, splits.fit, SAMPLES_TO_SEE), TOGETHER, left)
        program = _emitted(program, directory, network, splits.verify, seed, say)
        say("report")
        write_report(program, program.notes.verdicts, directory / "report.html")
    return program


def _emitted(program: Program, directory: Path, network: Network, inputs: Inputs, seed: int, say: Progress) -> Program:
    """The program as files, with what the judge says of them: in torch where numpy's rounding moves the output."""
    say("emit")
    emit(program, directory)
    say("verify: running the emitted file in a fresh process")
    judged = _judged(program, directory, network, inputs, seed, say)
    if dialect_of(program) != "numpy" or not _differs(judged):
        return judged
    say("emit: in torch, because rounding in numpy moves the output too far")
    program = program.with_notes(remarks=(*program.notes.remarks, ROUNDING))
    emit(program, directory, dialect="torch")
    return _judged(program, directory, network, inputs, seed, say)


def _differs(program: Program) -> bool:
    """Whether the exact whole, as emitted, comes so near the bar that other inputs may take it beyond."""
    return any(
        verdict.value > MARGIN * TOLERANCE
        for verdict in program.notes.verdicts
        if (verdict.part, verdict.reading, verdict.measure) == ("program", "weights", "max relative difference")
    )


def _judged(program: Program, directory: Path, network: Network, inputs: Inputs, seed: int, say: Progress) -> Program:
    """The program with verdicts and shares of loss, which are also written beside it."""
    judgement = verify_directory(directory, network, inputs, seed=seed, progress=lambda part: say(f"verify: {part}"))
    program = program.with_notes(verdicts=judgement.verdicts, loss_shares=judgement.loss_shares)
    program.save(directory)
    write_verdicts(judgement.verdicts, directory / "verdicts.json")
    return program


def verify(
    subject: Program | str | PathLike[str],
    model: Model,
    inputs: object = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Verdict]:
    """Run an emitted program in a fresh process, put each of its functions into the network, and compare.

    Args:
        subject: the directory that `decompile` wrote, or a program, which is then emitted to a temporary one. The file
            program.py in it is run: verify only directories that you trust.
        model, inputs, seed: as for `decompile`; verdicts are on the *verify* split.

    Returns:
        Verdicts, failures first.
    """
    network = load(model)
    inputs = split(read_inputs(network, inputs_of(model) if inputs is None else inputs, seed), seed).verify
    with contextlib.ExitStack() as stack:
        if isinstance(subject, Program):
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pellucid-"))) / "program"
            emit(subject, directory)
        else:
            directory = Path(subject)
        return list(verify_directory(directory, network, inputs, seed=seed, progress=progress).verdicts)


@contextlib.contextmanager
def _destination(output: str | PathLike[str] | None) -> Iterator[Path]:
    """Where to write: beside `output` until all is done, or in a temporary place when nothing is to be kept."""
    if output is not None:
        with staged(output) as directory:
            yield directory
        return
    with tempfile.TemporaryDirectory(prefix="pellucid-") as directory:
        yield Path(directory)


def read_inputs(network: Network, inputs: object, seed: int) -> Inputs:
    """The user's inputs as samples that the network takes.

    Raises:
        BadInput: there are none and the network cannot do without, or they do not fit.
    """
    tokenizer = network.tokenizer
    if inputs is None:
        if tokenizer is None:
            raise BadInput(f"{network.source}: no inputs; give --inputs FILE (or the argument inputs) to run it on")
        inputs = list(TEXTS)
    samples = gather(inputs, seed=seed, tokenizer=tokenizer, vocabulary=network.vocabulary)
    return samples if network.vocabulary is not None else _as_network_takes(network, samples)


def _as_network_takes(network: Network, samples: Inputs) -> Inputs:
    """Whole numbers as real ones where the network computes with them instead of looking them up."""
    example = samples.example
    if all(array.is_floating_point() for array in example.arrays.values()):
        return samples
    with contextlib.suppress(BadInput):
        call_network(network, example.args, example.kwargs)
        return samples
    return gather(samples, floating=True)


def _calls(program: Program, inputs: Inputs, limit: int) -> Sequence[Values]:
    """Samples as the program's entry takes them."""
    names = program[program.entry].inputs
    calls: list[Values] = []
    for batch in inputs.take(limit).batches():
        positional = iter(batch.args)
        calls.append([batch.kwargs[name] if name in batch.kwargs else next(positional) for name in names])
    return calls
