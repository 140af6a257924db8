"""``hermes-sdk parse``: what the parser makes of a turn."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, assert_never

import typer

from hermes_agent.cli.exits import reported
from hermes_agent.cli.options import DebugOption, JsonOption
from hermes_agent.cli.terminal import console, json_line, read_text, safe

if TYPE_CHECKING:
    from rich.console import Console

    from hermes_agent.messages import ToolCall
    from hermes_agent.tool import Tool
    from hermes_agent.turn import Part, Turn

__all__ = ["HELP", "parse"]

HELP = """Show what the parser makes of an assistant turn: its parts with their spans, repairs and faults.

Spans count characters from 0; the end is exclusive.

\b
Examples:
  hermes-sdk parse turn.txt
  hermes-sdk parse - --tools add,sub --json < turn.txt
  hermes-sdk parse turn.txt --tools tools.py --dialect deephermes-3
"""


def parse(
    file: Annotated[str, typer.Argument(help="The turn, as the model wrote it; - is standard input.")] = "-",
    tools: Annotated[
        list[str] | None,
        typer.Option(
            "--tools",
            "-t",
            metavar="TOOL",
            help="What was offered: names such as add,sub, or what `run --tools` takes from files and modules. "
            "Without it no call is an unknown tool.",
        ),
    ] = None,
    dialect: Annotated[
        str | None, typer.Option("--dialect", "-d", metavar="NAME", help="Whose thinking tags and stop strings count.")
    ] = None,
    truncated: Annotated[bool, typer.Option("--truncated", help="The model was cut off at a token limit.")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what the parser makes of a turn."""
    with reported(debug):
        from hermes_agent.formats.parser import parse as read

        offered = None if tools is None else [tool for spec in tools for tool in _offered(spec)]
        turn = read(read_text(file), tools=offered, dialect=dialect, finish_reason="length" if truncated else "stop")
        if as_json:
            print(json_line(_as_object(turn)))
        else:
            _show(turn, console())


def _offered(spec: str) -> list[Tool | str]:
    """Bare names as they are, everything else loaded."""
    from hermes_agent.cli.load import load_tools

    if spec.endswith(".py") or ":" in spec:
        return [*load_tools([spec])]
    return [name for name in (part.strip() for part in spec.split(",")) if name]


def _show(turn: Turn, out: Console) -> None:
    if turn.reasoning is not None:
        _row(out, "thinking", "", turn.reasoning, "dim italic")
    for call in turn.reasoning_calls:
        _row(out, "intended", "", _spelled(call), "dim")
    for part in turn.parts:
        label, text, style = _line(part)
        _row(out, label, f"{part.span[0]}-{part.span[1]}", text, style)
    if turn.repairs:
        _row(out, "repairs", "", ", ".join(turn.repairs), "yellow")
    if not turn.parts and turn.reasoning is None:
        _row(out, "empty", "", "", "dim")


def _row(out: Console, label: str, span: str, text: str, style: str) -> None:
    head = f"{label:<9} {span:<12} "
    out.print(head, style="bold", end="")
    out.print(safe(text).replace("\n", "\n" + " " * len(head)), style=style)


def _line(part: Part) -> tuple[str, str, str]:
    """Label, text and style of a part."""
    from hermes_agent.turn import CallPart, Fault, TextPart

    match part:
        case TextPart(text):
            return "text", text, ""
        case CallPart(call):
            return "call", _spelled(call), "cyan"
        case Fault():
            name = f" ({part.name})" if part.name else ""
            raw = "" if part.kind == "unknown_tool" else f"\n{part.raw}"  # its call stands right above
            return "fault", f"{part.kind.replace('_', ' ')}{name}: {part.detail}{raw}", "yellow"
        case _:
            assert_never(part)


def _spelled(call: ToolCall) -> str:
    note = f"\nrepaired: {', '.join(call.repairs)}" if call.repairs else ""
    return f"{call.name} {json.dumps(call.arguments, ensure_ascii=False)}{note}"


def _as_object(turn: Turn) -> dict[str, Any]:
    return {
        "parts": [_part(part) for part in turn.parts],
        "reasoning": turn.reasoning,
        "reasoning_calls": [_call(call) for call in turn.reasoning_calls],
        "repairs": list(turn.repairs),
    }


def _part(part: Part) -> dict[str, Any]:
    from hermes_agent.turn import CallPart, Fault, TextPart

    span = list(part.span)
    match part:
        case TextPart(text):
            return {"kind": "text", "span": span, "text": text}
        case CallPart(call):
            return {"kind": "call", "span": span, **_call(call)}
        case Fault():
            told = {"fault": part.kind, "detail": part.detail, "name": part.name, "raw": part.raw}
            return {"kind": "fault", "span": span, **told}
        case _:
            assert_never(part)


def _call(call: ToolCall) -> dict[str, Any]:
    return {"name": call.name, "arguments": call.arguments, "repairs": list(call.repairs), "raw": call.raw}
