"""``hermes-sdk score``: how good the output of an extraction job is."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hermes_agent.cli.exits import reported
from hermes_agent.cli.options import DebugOption, JsonOption
from hermes_agent.cli.terminal import console, json_line, safe

if TYPE_CHECKING:
    from rich.console import Console

    from hermes_agent.extract.scoring import Estimate, Measure, RowScore, Score

__all__ = ["HELP", "score"]

HELP = """Score the output of an extraction job: exact match, and precision, recall and F1 by field.

GOLD has rows {"id", "gold"}, OUT rows {"id", "output"} or {"id", "error"}; they are paired by id.
Lists are compared in any order, numbers by value, strings without needless whitespace; what is empty or null is the
same as what is not there. Behind each F1 stands its 95 % interval.

\b
Examples:
  hermes-sdk score gold.jsonl out.jsonl
  hermes-sdk score gold.jsonl out.jsonl --no-by-field --worst 20
  hermes-sdk score gold.jsonl out.jsonl --json | jq .overall.f1.value
"""

_CHARS = 100


def score(
    gold: Annotated[str, typer.Argument(help="JSON lines with the right answers.")],
    out: Annotated[str, typer.Argument(help="JSON lines that a job wrote.")],
    by_field: Annotated[bool, typer.Option("--by-field/--no-by-field", help="A line for each field too.")] = True,
    worst: Annotated[int, typer.Option("--worst", min=0, metavar="N", help="Show the N rows that are most wrong.")] = 5,
    gold_field: Annotated[
        str | None,
        typer.Option(
            "--gold-field", metavar="NAME", help="Where the right answer stands in a row. Default: gold, else output."
        ),
    ] = None,
    casefold: Annotated[bool, typer.Option("--casefold", help="Upper and lower case are the same.")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Score the output of an extraction job."""
    with reported(debug):
        from hermes_agent.extract.scoring import score as scored

        found = scored(gold, out, gold_field=gold_field, casefold=casefold, worst=worst)
        if as_json:
            print(json_line(_as_object(found)))
        else:
            _show(found, console(), by_field=by_field)


def _as_object(found: Score) -> dict[str, Any]:
    told = asdict(found)
    # Infinity and NaN, which files of other programs may hold, are no JSON.
    told["worst"] = [
        {**row, "missed": _spelled(row["missed"]), "extra": _spelled(row["extra"])} for row in told["worst"]
    ]
    return told


def _spelled(values: Any) -> list[list[Any]]:
    return [[field, repr(value) if isinstance(value, float) else value] for field, value in values]


def _show(found: Score, out: Console, *, by_field: bool) -> None:
    rows = [_line("all values", found.overall)]
    if by_field:
        rows += [_line(safe(name), measure) for name, measure in found.fields.items()]
    _table(out, ["", "precision", "recall", "F1", "95 % interval", "right", "to find", "said"], rows)
    out.print(f"\nexact rows   {_percent(found.exact)}  ({_interval(found.exact)}) of {found.rows:,}")
    out.print(f"macro F1     {100 * found.macro_f1:.1f} %  over {len(found.fields):,} fields")
    for label, count, why in (
        ("missing", found.missing, "rows that the output does not have; all their values count as missed"),
        ("failed", found.failed, "rows whose output is an error; all their values count as missed"),
        ("unknown", found.unknown, "rows of the output that have no right answer; they count nowhere else"),
    ):
        if count:
            ids = ", ".join(repr(id_) for id_ in found.ids[label])
            out.print(f"{label:<12} {count:,}  {why}", style="yellow")
            out.print(f"{'':<12} {safe(ids)}{', …' if count > len(found.ids[label]) else ''}", style="dim")
    for row in found.worst:
        _show_row(row, out)


def _show_row(row: RowScore, out: Console) -> None:
    out.print(f"\n{safe(row.id)}", style="bold", end="")
    out.print(f"  F1 {100 * row.f1:.1f} %")
    for label, values, style in (("missed", row.missed, "yellow"), ("extra", row.extra, "cyan")):
        for field, value in values:
            text = repr(value)
            shown = text if len(text) <= _CHARS else f"{text[: _CHARS - 1]}…"
            out.print(f"  {label:<7} {safe(field)}: {safe(shown)}", style=style)


def _line(name: str, measure: Measure) -> list[str]:
    ratios = [_percent(measure.precision), _percent(measure.recall), _percent(measure.f1), _interval(measure.f1)]
    return [name, *ratios, f"{measure.hits:,}", f"{measure.gold:,}", f"{measure.said:,}"]


def _percent(share: Estimate) -> str:
    return f"{100 * share.value:.1f} %"


def _interval(share: Estimate) -> str:
    return f"{100 * share.low:.1f} to {100 * share.high:.1f}"


def _table(out: Console, header: list[str], rows: list[list[str]]) -> None:
    """Columns, the first to the left, the others to the right."""
    widths = [max(len(row[at]) for row in (header, *rows)) for at in range(len(header))]
    for number, row in enumerate((header, *rows)):
        first, *others = (
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        out.print("  ".join([first, *others]).rstrip(), style="" if number else "bold")
