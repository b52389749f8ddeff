"""The report: one HTML file that says what a program is, what is still weights, what failed, and shows every part.

The file is complete in itself. Its own content security policy allows the one script and the one style sheet inside it
(by their hashes) and images inside it, and nothing else: no network, no other script, whatever the data may say.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import jinja2
from markupsafe import Markup

from pellucid.errors import BadInput
from pellucid.ir.notes import Verdict
from pellucid.ir.program import Program
from pellucid.ir.regions import NO_JOINT
from pellucid.reports import findings, wording
from pellucid.reports.highlight import colour
from pellucid.reports.icicle import draw_icicle
from pellucid.reports.listings import list_code
from pellucid.reports.parts import anchors, describe_parts, verdicts_by_part
from pellucid.reports.summary import bits, summarise
from pellucid.reports.tensor_views import broken_by_function, view_tensors
from pellucid.reports.tree import lay_out

USAGE = """\
# in the folder of this file, without pellucid: arrays in, arrays out
python program.py inputs.npz outputs.npz
python program.py inputs.npz outputs.npz --reading weights   # every part by its original weights

# put every part back into the network and measure again
pellucid verify FOLDER MODEL --inputs FILE

# in Python
import pellucid
program = pellucid.Program.load("FOLDER")
print(program)                                      # pseudocode, two levels deep
outputs = program(inputs)                           # the readings that were chosen
outputs = program.run(inputs, reading="weights")    # the exact ones, everywhere"""

UNIT_PAGES = "units/index.html"
"""Where `pellucid.reports.unit_pages` writes, beside the report."""

_ASSETS = files("pellucid.reports") / "assets"


def report(
    program: Program, verdicts: Sequence[Verdict], *, code: Mapping[str, str] | None = None, units: str | None = None
) -> str:
    """The report on a program as one self-contained HTML page; the same bytes for the same arguments.

    Args:
        verdicts: what was measured; the verdicts in the program's notes when empty.
        code: text to show for the chosen reading of some functions, by name, instead of its printed form.
        units: where pages of units are, relative to the report, to link there.
    """
    judged = tuple(verdicts) or program.notes.verdicts
    ids = anchors(program)
    cells = lay_out(program)
    tensors = view_tensors(program, tuple(cells))
    by_part = verdicts_by_part(program, judged)
    parts = describe_parts(program, cells, by_part, list_code(program, ids, code or {}), tensors)
    return render(
        "report.html.j2",
        summary=summarise(program),
        ids=ids,
        failures=findings.failures(judged),
        missing=(*findings.missing(program, judged, cells), *findings.broken_weights(broken_by_function(tensors))),
        remarks=program.notes.remarks,
        modules=program.notes.modules,
        jointless=program.regions is not None and NO_JOINT in program.regions.origin,
        opaque=findings.opaque_operations(program),
        verdicts=judged,
        strips=findings.strips(judged),
        tested=wording.span([float(verdict.inputs) for verdict in judged]),
        icicle=draw_icicle(program, cells, ids, by_part),
        parts=parts,
        usage=colour(USAGE, {}),
        units=units,
    )


def render(template: str, *, also: Sequence[str] = (), **facts: object) -> str:
    """A page from a template of this room, with the styles and the one script that its policy allows.

    Args:
        also: style sheets of this room that the page needs besides that of the report.
    """
    style, script = "".join(_asset(name) for name in ("report.css", *also)), _asset("report.js")
    made = _environment().get_template(template)
    return made.render(policy=_policy(style, script), style=Markup(style), script=Markup(script), **facts)


def write_report(program: Program, verdicts: Sequence[Verdict], path: str | os.PathLike[str]) -> None:
    """Write `report(program, verdicts)` to `path`, all of it or nothing, with a link to pages of units beside it.

    Raises:
        BadInput: the file cannot be written; what was there before is left as it was.
    """
    pages = UNIT_PAGES if (Path(path).parent / UNIT_PAGES).is_file() else None
    write_page(report(program, verdicts, units=pages), path)


def folder_made(folder: Path) -> Path:
    """A folder for pages, made where there is none. Raises BadInput where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be made ({error.strerror}); choose another output directory") from error
    return folder


def write_page(text: str, path: str | os.PathLike[str]) -> None:
    """Write a page to `path`, all of it or nothing. Raises BadInput as `write_report` does."""
    target = Path(path)
    page = text.encode("utf-8")
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    except OSError as error:
        raise _cannot_write(target, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(page)
        os.chmod(name, 0o644)
        os.replace(name, target)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise _cannot_write(target, error) from error


def _cannot_write(target: Path, error: OSError) -> BadInput:
    cause = error.strerror or type(error).__name__
    return BadInput(
        f"{target}: cannot write the report ({cause}); choose a folder that exists, is writable and has room"
    )


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")

    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest(style)}'; "
        f"script-src 'sha256-{digest(script)}'; base-uri 'none'; form-action 'none'"
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters.update(
        bits=bits,
        clip=wording.clip,
        control=findings.control_shown,
        count=wording.count,
        amount=wording.amount,
        number=wording.number,
        percent=wording.percent,
        plural=wording.plural,
        shorten=wording.shorten,
    )
    return environment


def _finalize(value: object) -> object:
    return value if isinstance(value, Markup) else wording.visible(str(value))
