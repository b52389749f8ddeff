"""The command line: a thin shell over `pellucid.pipeline`.

Exit codes: 0 all verdicts passed; 1 one failed; 2 bad usage or input; 3 incomplete.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pellucid.errors import PellucidError
from pellucid.ir.notes import Verdict
from pellucid.ir.program import Program

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)
console = Console(highlight=False)

ModelArgument = Annotated[str, typer.Argument(help="Hugging Face folder, what train wrote, GGUF, .pt2, or smollm2")]
InputsOption = Annotated[Optional[Path], typer.Option(help="npz, npy, parquet, or txt for a language model")]  # noqa: UP045
UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float:
    """Seconds of "90", "90s", "1.5m" or "2h".

    Raises:
        typer.BadParameter: it is none of these, or negative.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([smh]?)\s*", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no duration; write 90, 90s, 1.5m or 2h")
    return float(found[1]) * UNITS[found[2]]


BudgetOption = Annotated[float, typer.Option(parser=duration, metavar="TIME", help="for the search for code: 60s, 5m")]
SeedOption = Annotated[int, typer.Option(help="seed of the splits")]


@app.command()
def decompile(
    model: ModelArgument,
    inputs: InputsOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="directory to write")] = Path("pellucid-out"),
    modules: Annotated[str, typer.Option(help="what to build on: nesting, spectral, n-cut, leiden …")] = "nesting",
    budget: BudgetOption = "60s",  # type: ignore[assignment]
    seed: SeedOption = 0,
) -> None:
    """Turn a network into a program, run it, and write it with its verdicts and a report."""
    from pellucid import pipeline
    from pellucid.modules.methods import regions_by

    regions = regions_by(modules, seed=seed)
    with _stages() as say:
        program = pipeline.decompile(
            model, inputs, output=output, regions=regions, budget=budget, seed=seed, progress=say
        )
    _print_ledger(program)
    _print_verdicts(program.notes.verdicts)
    console.print(f"report: {output / 'report.html'}\nprogram: {output / 'program.py'}", markup=False)
    _exit_by(program.notes.verdicts)


@app.command()
def describe(
    model: ModelArgument,
    inputs: Annotated[Path, typer.Option(help="a text, UTF-8")],
    output: Annotated[Path, typer.Option("--output", "-o", help="directory to write, or to resume")] = Path(
        "words-out"
    ),
    context: Annotated[int, typer.Option(help="tokens of a window of the text")] = 256,
    tokens: Annotated[Optional[int], typer.Option(help="tokens of the text to take, else all")] = None,  # noqa: UP045
    latents: Annotated[int, typer.Option(help="of the dictionary of each MLP")] = 1536,
    tuned: Annotated[bool, typer.Option("--tune/--no-tune", help="tune the numbers of all words together")] = True,
    seed: Annotated[int, typer.Option(help="seed of the split and of everything drawn")] = 0,
    only: Annotated[Optional[list[str]], typer.Option(help="MLPs and attention to describe, like '*.5.mlp'")] = None,  # noqa: UP045
    endpoint: Annotated[Optional[str], typer.Option(help="OpenAI-compatible address of a labeller")] = None,  # noqa: UP045
    labeller: Annotated[Optional[str], typer.Option(help="the model to ask there")] = None,  # noqa: UP045
    ask: Annotated[int, typer.Option(help="how many latents to ask it about")] = 60,
    ask_modules: Annotated[int, typer.Option(help="how many modules to ask it about, with their interfaces")] = 24,
    max_calls: Annotated[Optional[int], typer.Option(help="requests to send at most")] = None,  # noqa: UP045
    ray: Annotated[Optional[str], typer.Option(help="local, or HOST:PORT of a Ray cluster to work on")] = None,  # noqa: UP045
) -> None:
    """Describe every MLP and head of a language model in words that run, and say what they are worth."""
    from pellucid import describing
    from pellucid.fanout import fan_at
    from pellucid.labelling import explain_latents, explain_modules, incomplete, labeller_at
    from pellucid.lift.load import load
    from pellucid.verdicts.words import on_all_words
    from pellucid.words.explain.asking import MISSING_EXIT_CODE
    from pellucid.words.hierarchy.explained import ExplainedModule
    from pellucid.words.judged import JudgedLabel
    from pellucid.words.reading.install import worded

    with _interruptible("the same command goes on"), fan_at(ray) as fan, _stages() as say:
        asker = labeller_at(endpoint, labeller, output, max_calls) if endpoint else None
        network = load(model)
        corpus = describing.read_text(network, inputs, context, tokens)
        effort = describing.effort_of(latents=latents, tuned=tuned, only=only or (), seed=seed)
        described = describing.describe(network, corpus, output=output, effort=effort, progress=say, fan=fan)
        asked: list[JudgedLabel | ExplainedModule] = []
        if asker and ask:
            asked += explain_latents(described, corpus, output, asker, count=ask, seed=seed, progress=say, fan=fan)
        if asker and ask_modules:
            asked += explain_modules(described, corpus, output, asker, count=ask_modules, seed=seed, progress=say)
    _print_ledger(worded(described), "run on its words: ")
    _print_verdicts(
        [verdict for verdict in described.notes.verdicts if verdict.reading == "words" or not verdict.passed],
        every=True,
    )
    for one in on_all_words(described.notes.verdicts):
        console.print(f"all words together, {one.detail}", markup=False)
    console.print(f"report: {output / 'report.html'}\nwords: {output / describing.FOLDER}", markup=False)
    if asked:
        missing = sum(one.missing is not None for one in asked)
        console.print(f"labels by the labeller: {len(asked) - missing}, missing: {missing}", markup=False)
    _exit_by(described.notes.verdicts)
    if incomplete(asked):
        raise typer.Exit(MISSING_EXIT_CODE)


@app.command()
def verify(
    directory: Annotated[Path, typer.Argument(help="what decompile wrote; its program.py is run")],
    model: ModelArgument,
    inputs: InputsOption = None,
    seed: SeedOption = 0,
) -> None:
    """Run an emitted program in a fresh process and compare every part with the network."""
    from pellucid import pipeline

    with _stages() as say:
        verdicts = pipeline.verify(directory, model, inputs, seed=seed, progress=say)
    _print_verdicts(verdicts, every=True)
    _exit_by(verdicts)


@app.command()
def show(
    directory: Annotated[Path, typer.Argument(help="what decompile wrote")],
    part: Annotated[Optional[str], typer.Argument(help="a function, module or unit (f:latents[7]); else all")] = None,  # noqa: UP045
    depth: Annotated[int, typer.Option(help="how many levels to open")] = 2,
) -> None:
    """Print a program as pseudocode, opened level by level, or what is known of a module or a unit."""
    from pellucid.ir.printing import program_text
    from pellucid.ir.units import parse_unit
    from pellucid.reports.module_terminal import module_text, modules_called
    from pellucid.reports.unit_terminal import unit_text

    program = Program.load(directory)
    if part is not None and part.endswith("]") and part not in program.functions:
        console.print(unit_text(directory, parse_unit(program, part)), soft_wrap=True)
        return
    if part is not None and part not in program.functions and modules_called(directory, part):
        console.print(module_text(directory, part), soft_wrap=True)
        return
    if part is not None:
        program[part]
    console.print(program_text(program, depth, start=part), markup=False, soft_wrap=True)


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(help="what decompile wrote")],
    beside: Annotated[Optional[Path], typer.Option(help="another one, to compare with: writes beside.html")] = None,  # noqa: UP045
) -> None:
    """Write report.html again from the program and its verdicts, or compare two programs."""
    from pellucid.reports import compare, write_comparison, write_report

    program = Program.load(directory)
    if beside is None:
        write_report(program, program.notes.verdicts, directory / "report.html")
        console.print(f"report: {directory / 'report.html'}", markup=False)
        return
    other = Program.load(beside)
    table = Table(box=None, pad_edge=False)
    for column in ("measure", directory.name, beside.name):
        table.add_column(escape(column), overflow="fold")
    for line in compare(program, other):
        table.add_row(escape(line.measure), escape(line.one), escape(line.other))
    write_comparison(program, other, directory / "beside.html")
    console.print(table)
    console.print(f"comparison: {directory / 'beside.html'}", markup=False)


@app.command()
def export(
    directory: Annotated[Path, typer.Argument(help="what describe wrote")],
    to: Annotated[str, typer.Option(help="neuronpedia, delphi, or parquet")],
    output: Annotated[Path, typer.Option("--output", "-o", help="directory to write, new or empty")],
    model: Annotated[Optional[str], typer.Option(help="what Neuronpedia is to call the model")] = None,  # noqa: UP045
) -> None:
    """Write the units of a described program for other tools: Neuronpedia's import, delphi's files, Parquet."""
    from pellucid import exporting

    with _interruptible():
        written = exporting.export(directory, to, output, model=model)
    for line in written.lines:
        console.print(line, markup=False, soft_wrap=True)
    for line in written.skipped:
        console.print(f"left out: {line}", markup=False, soft_wrap=True)
    console.print(f"export: {written.directory}", markup=False, soft_wrap=True)


@app.command()
def train(
    method: Annotated[str, typer.Argument(help="modular, none, l1, n-cut, bimt, top-k, or random for the control")],
    recipe: Annotated[Optional[str], typer.Option(help="double-digits, characters, or pretrained")] = None,  # noqa: UP045
    model: Annotated[Optional[str], typer.Option(help="to fine-tune: Hugging Face folder, GGUF, or smollm2")] = None,  # noqa: UP045
    text: Annotated[Optional[Path], typer.Option(help="what a language model learns from, UTF-8")] = None,  # noqa: UP045
    evaluate: Annotated[bool, typer.Option("--evaluate", help="a language model, before and after")] = False,
    wsc: Annotated[Optional[Path], typer.Option(help="with --evaluate: a file like wsc273.txt")] = None,  # noqa: UP045
    blimp: Annotated[Optional[Path], typer.Option(help="with --evaluate: folder of BLiMP's .jsonl")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option(help="seed of weights, samples and shuffles")] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="directory to write, or to resume")] = Path("trained"),
    steps: Annotated[Optional[int], typer.Option(help="steps of each run, else the recipe's")] = None,  # noqa: UP045
    restarts: Annotated[Optional[int], typer.Option(help="runs to choose from, else the recipe's")] = None,  # noqa: UP045
) -> None:
    """Train a network that comes apart, or a baseline; a run that was stopped is resumed from its directory."""
    from pellucid.train import displayed
    from pellucid.train import train as train_task
    from pellucid.train.exam import before_and_after
    from pellucid.train.lessons import Asked, lesson

    asked = lesson(Asked(recipe, model, text, evaluate, wsc, blimp, steps, restarts))
    task, plan = asked.recipe.task, asked.recipe.plan
    with _interruptible("the same command resumes it"):
        with displayed(console) as report:
            found = train_task(task, method, plan=plan, seed=seed, directory=output, report=report)
        if asked.exam is not None:
            console.print(before_and_after(task, found, asked.exam, output))
    figures = found.figures
    console.print(
        f"accuracy {figures.accuracy:.2%}, interface {figures.interface:.2%}, accuracy without it"
        f" {figures.accuracy_cut:.2%}, z {figures.z:.1f}\nnetwork: {output / 'network.safetensors'}"
        f"\nnext: pellucid decompile {output} --modules spectral",
        markup=False,
    )


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="directory to write")] = Path("pellucid-out"),
) -> None:
    """Decompile three real networks: an adder, a digit classifier, and SmolLM2-135M."""
    from pellucid.demos.run import run_demo

    with _interruptible():
        verdicts = run_demo(output, console)
    _exit_by(verdicts)


@contextmanager
def _interruptible(after: str = "nothing was half written") -> Iterator[None]:
    """Ctrl-C ends the command with one line."""
    try:
        yield
    except KeyboardInterrupt:
        Console(stderr=True).print(f"pellucid: interrupted; {after}")
        sys.exit(130)


@contextmanager
def _stages() -> Iterator[Callable[[str], None]]:
    """A line for the stage at work; the last one stays."""
    with _interruptible(), console.status("pellucid", spinner="dots") as status:
        yield lambda stage: status.update(escape(stage)) if console.is_terminal else console.print(stage, markup=False)


def _print_ledger(program: Program, when: str = "") -> None:
    shares = program.ledger.parameters
    still = f"{shares['weights']:.1%} of {program.ledger.parameter_count:,} parameters are still weights"
    console.print(f"{when}[bold]{still}[/bold]; code {shares['code']:.1%}, words {shares['words']:.1%}")


def _print_verdicts(verdicts: Sequence[Verdict], every: bool = False) -> None:
    failed = [verdict for verdict in verdicts if not verdict.passed]
    table = Table(box=None, pad_edge=False)
    for column in ("part", "reading", "measure", "value", "interval", "inputs", "control", "passed"):
        table.add_column(column, overflow="fold")
    for verdict in verdicts if every else failed or [v for v in verdicts if v.part == "program"]:
        low, high = verdict.interval
        table.add_row(
            escape(verdict.part), verdict.reading, verdict.measure, f"{verdict.value:.4g} {verdict.unit}",
            f"{low:.3g} … {high:.3g}", f"{verdict.inputs} {verdict.kind}", f"{verdict.control:.3g}",
            "yes" if verdict.passed else "[red]NO[/red]",
        )  # fmt: skip
    console.print(table)
    console.print(f"{len(verdicts) - len(failed)} of {len(verdicts)} verdicts passed")


def _exit_by(verdicts: Sequence[Verdict]) -> None:
    if any(not verdict.passed for verdict in verdicts):
        raise typer.Exit(1)


def main() -> None:
    """Entry point: errors that pellucid raises on purpose become one line and their exit code."""
    try:
        app()
    except PellucidError as error:
        Console(stderr=True, highlight=False).print(f"pellucid: {error}", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
