"""``hermes-sdk extract``: typed values out of one text, or out of every row of a file."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TextIO, cast

import typer

from hermes_agent.cli.exits import INTERRUPTED, reported
from hermes_agent.cli.load import load_model, load_object
from hermes_agent.cli.options import (
    Constrain,
    ConstrainOption,
    DebugOption,
    MaxTokensOption,
    ModelOption,
    Thinking,
    ThinkingOption,
)
from hermes_agent.cli.terminal import console, read_text, safe, standard_input, stdout_kept

if TYPE_CHECKING:
    from hermes_agent.extract import Extractor
    from hermes_agent.extract.inputs import Rows
    from hermes_agent.extract.job import JobSummary

__all__ = ["HELP", "extract"]

HELP = """Take typed values out of texts: out of one, or out of every row of a file or folder.

SCHEMA says what to take: path.py:Type, package.module:Type, or a .json file with a JSON schema. INPUT is JSON lines
(.jsonl), CSV (.csv, .tsv), Parquet, a folder of text files, one text file, or - for standard input. A job that was
stopped, by whatever, goes on where it was when the same command is run again.

\b
Examples:
  hermes-sdk extract schema.py:Invoice invoice.txt
  hermes-sdk extract schema.py:Invoice in.jsonl -o out.jsonl
  hermes-sdk extract schema.json mails/ -o out.parquet -m vllm:Hermes-4-14B@http://localhost:8000
  hermes-sdk extract schema.py:Invoice in.csv --text body --id number -o out.sqlite
  hermes-sdk extract --like samples.jsonl in.jsonl -o out.jsonl
  hermes-sdk extract schema.py:Invoice in.jsonl -o out.jsonl --retry
"""

_JOB, _PROMPT = "Job", "Prompt"
_EXAMPLE_HINT = 'write one object a line: {"text": "Total due: 12.50 EUR", "output": {"total": 12.5}}'


class Where(StrEnum):
    """Values of ``--engine``."""

    local = "local"
    ray = "ray"


@dataclass(frozen=True, slots=True)
class _Job:
    """What is read, where it goes, and how."""

    source: str
    out: str | None
    text: str | None
    id: str | None
    restart: bool
    retry: bool
    concurrency: int | None
    engine: Where
    quiet: bool


def extract(
    schema: Annotated[str, typer.Argument(metavar="SCHEMA", help="The type of the value; left out with --like.")],
    source: Annotated[str | None, typer.Argument(metavar="INPUT", help="The texts.", show_default=False)] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Where rows go: .jsonl, .parquet or .sqlite. Without it INPUT is one text, and its value is printed.",
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option("--like", metavar="FILE", help="Take objects like those in this file, one a line, for a schema."),
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", metavar="COLUMN", help="The column of the text, else text.")
    ] = None,
    id_: Annotated[
        str | None, typer.Option("--id", metavar="COLUMN", help="The column of the id, else id, if there is one.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, and forget what was done.", rich_help_panel=_JOB)
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Ask again for the rows that have failed.", rich_help_panel=_JOB)
    ] = False,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", min=1, help="Rows at once. Default: what the model bears.", rich_help_panel=_JOB),
    ] = None,
    engine: Annotated[
        Where, typer.Option("--engine", help="Work here, or on the workers of a Ray cluster.", rich_help_panel=_JOB)
    ] = Where.local,
    instructions: Annotated[
        str | None,
        typer.Option("--instructions", "-i", metavar="TEXT", help="What the model is told.", rich_help_panel=_PROMPT),
    ] = None,
    examples: Annotated[
        str | None,
        typer.Option(
            "--examples", metavar="FILE", help="Worked texts: {text, output}, one a line.", rich_help_panel=_PROMPT
        ),
    ] = None,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="Say where in the text each value stands.", rich_help_panel=_PROMPT)
    ] = False,
    model: ModelOption = None,
    thinking: ThinkingOption = Thinking.off,
    constrain: ConstrainOption = Constrain.auto,
    max_tokens: MaxTokensOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no summary.")] = False,
    debug: DebugOption = False,
) -> None:
    """Take typed values out of texts."""
    if like is not None and source is None:
        schema, source = "", schema
    if source is None or (like is not None and schema):
        raise typer.BadParameter("give a schema and an input, or --like FILE and an input", param_hint="SCHEMA INPUT")
    job = _Job(source, out, text, id_, restart, retry, concurrency, engine, quiet)
    with reported(debug):
        settings: dict[str, Any] = {} if instructions is None else {"instructions": instructions}
        if max_tokens is not None:
            from hermes_agent.limits import Limits

            settings["limits"] = Limits(corrections=2, turn_tokens=max_tokens)
        settings |= {"reasoning": thinking.value, "constrain": constrain.value, "evidence": evidence}
        with stdout_kept() as printed:
            _extract(job, schema, like, model, examples, settings, printed)


def _extract(
    job: _Job,
    schema: str,
    like: str | None,
    model: str | None,
    examples: str | None,
    settings: dict[str, Any],
    printed: TextIO,
) -> None:
    """Build what extracts, and let it work."""
    from hermes_agent.extract import Extractor

    output = _like(like) if like is not None else _output(schema)
    make = cast("Any", Extractor)  # of a type that a user's file holds
    extractor: Extractor[Any] = make(output, load_model(model), examples=_examples(examples), **settings)
    if job.out is None:
        print(safe(_one(job, extractor)), file=printed, flush=True)
    else:
        _finish(job, _run(job, extractor, job.out))


def _output(spec: str) -> object:
    from hermes_agent.errors import ConfigurationError

    if not spec.lower().endswith(".json"):
        return load_object(spec)
    try:
        schema = json.loads(read_text(spec))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{spec!r} is not JSON: {error}", hint="correct the file") from error
    if not isinstance(schema, dict):
        raise ConfigurationError(f"{spec!r} holds no JSON schema but {schema!r:.80}", hint="give an object")
    return cast("dict[str, Any]", schema)


def _like(file: str) -> object:
    from hermes_agent.extract.samples import infer

    return infer([value for _, value in _objects(file, "write one sample object a line")])


def _examples(file: str | None) -> list[tuple[str, Any]]:
    """The worked texts of ``--examples``.

    Raises:
        ConfigurationError: The file holds something else; the message says where.
    """
    from hermes_agent.errors import ConfigurationError

    found: list[tuple[str, Any]] = []
    for where, item in _objects(file, _EXAMPLE_HINT) if file is not None else ():
        if set(item) != {"text", "output"} or not isinstance(item["text"], str):
            raise ConfigurationError(f"{where} is no example but {item!r:.80}", hint=_EXAMPLE_HINT)
        found.append((item["text"], item["output"]))
    return found


def _objects(file: str, hint: str) -> list[tuple[str, dict[str, Any]]]:
    """The objects of a file of JSON lines, each with where it stands."""
    from hermes_agent.errors import ConfigurationError

    found: list[tuple[str, dict[str, Any]]] = []
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if not line.strip():
            continue
        where = f"line {number} of {file!r}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"{where} is not JSON: {error}", hint=hint) from error
        if not isinstance(value, dict):
            raise ConfigurationError(f"{where} is no object but {value!r:.80}", hint=hint)
        found.append((where, cast("dict[str, Any]", value)))
    return found


def _one(job: _Job, extractor: Extractor[Any]) -> str:
    """The value of one text, as a line of JSON."""
    from hermes_agent.errors import ConfigurationError
    from hermes_agent.extract.inputs import is_text_file, read_rows

    if job.source == "-":
        return extractor.output.serialise(extractor.extract(read_text("-")).output)
    if not is_text_file(job.source):
        raise ConfigurationError(f"{job.source!r} is not one text file", hint="say with -o where the rows go")
    (row,) = read_rows(job.source)
    if row.problem:
        raise ConfigurationError(f"cannot use {job.source!r}: {row.problem}", hint="give a file with UTF-8 text")
    return extractor.output.serialise(extractor.extract(row.text).output)


def _run(job: _Job, extractor: Extractor[Any], out: str) -> JobSummary:
    """Work through the rows.

    Raises:
        typer.Exit: Ctrl-C; the user was told what is kept, and how to go on.
    """
    import anyio

    from hermes_agent.cli.history import check_apart
    from hermes_agent.cli.interrupts import noticed_by_loop

    if job.source != "-":
        check_apart(("INPUT", job.source), ("--out", out))
    results: list[JobSummary] = []  # not the task's own result, which asyncio would format

    async def go() -> None:
        with noticed_by_loop():
            summary = await extractor.map_async(
                _rows(job),
                out=out,
                text=job.text,
                id=job.id,
                resume=not job.restart,
                retry=job.retry,
                concurrency=job.concurrency,
                engine=job.engine.value,
                progress=not job.quiet,
            )
            results.append(summary)

    try:
        anyio.run(go)
    except KeyboardInterrupt:
        again = " without --restart" if job.restart else ""
        told = f"stopped; what was done by then is kept in {out!r}: run the same command{again} to go on"
        console(sys.stderr).print(safe(told))
        raise typer.Exit(INTERRUPTED) from None
    return results[0]


def _rows(job: _Job) -> str | Rows:
    if job.source != "-":
        return job.source
    from hermes_agent.extract.inputs import piped_rows

    return piped_rows(standard_input().buffer, text=job.text, id=job.id)


def _finish(job: _Job, summary: JobSummary) -> None:
    """Say what the job came to.

    Raises:
        typer.Exit: There are rows, and all of them have failed.
    """
    from hermes_agent.extract.progress import shown_rate

    out = console(sys.stderr, quiet=job.quiet)
    now = summary.rows - summary.already
    before = f", {summary.already:,} of them before" if summary.already else ""
    causes = ", ".join(f"{count:,} {name}" for name, count in summary.causes.items())
    speed = f", {shown_rate(now / summary.seconds)} rows/s" if summary.seconds and now else ""
    usage = summary.usage
    out.print(f"rows     {summary.rows:,}{before}")
    out.print(safe(f"failed   {summary.failed:,}{f': {causes}' if causes else ''}"))
    out.print(f"tokens   {usage.input_tokens:,} in, {usage.output_tokens:,} out")
    out.print(f"seconds  {summary.seconds:.1f}{speed}")
    out.print(safe(f"written  {summary.out}"))
    if summary.failed:
        out.print('hint:    failed rows have "error" in place of "output"; --retry asks for them again')
    if summary.rows and summary.failed == summary.rows:
        raise typer.Exit(1)
