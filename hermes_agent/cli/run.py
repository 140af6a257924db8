"""``hermes-sdk run``: one question, watched or as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from hermes_agent.cli.exits import INTERRUPTED, hint_of, reported
from hermes_agent.cli.options import (
    AgentOptions,
    Constrain,
    ConstrainOption,
    DebugOption,
    ExamplesOption,
    HistoryOption,
    InstructionsOption,
    JsonOption,
    MaxStepsOption,
    MaxTokensOption,
    McpOption,
    ModelOption,
    OutputOption,
    ParallelOption,
    SchemaOption,
    SeedOption,
    TemperatureOption,
    Thinking,
    ThinkingOption,
    ToolChoiceOption,
    ToolsOption,
)
from hermes_agent.cli.terminal import console, json_line, read_text, safe, stdout_kept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from hermes_agent.cli.trace import Trace
    from hermes_agent.errors import HermesError
    from hermes_agent.messages import Message
    from hermes_agent.output import Output
    from hermes_agent.run import RunResult

__all__ = ["HELP", "run"]

HELP = """Ask a question: the model calls the tools it needs, and answers.

On a terminal you watch the run. Elsewhere the answer alone goes to standard output, and the trace to standard error.

\b
Examples:
  hermes-sdk run "What is 17 * 23?" --tools calculator
  hermes-sdk run "Is it raining in Oslo?" --tools weather.py:forecast --thinking auto
  hermes-sdk run "Plan my day" --tools day.py --output day.py:Plan --json
  hermes-sdk run - --model hf:Qwen/Qwen3-4B < question.txt
"""


def _something(question: str) -> str:
    """A question that asks something.

    Raises:
        typer.BadParameter: It is blank.
    """
    if not question.strip():
        raise typer.BadParameter(f"{question!r} asks nothing; say what the model is to do", param_hint="QUESTION")
    return question


def run(
    question: Annotated[str, typer.Argument(help="What to ask; - reads it from standard input.", callback=_something)],
    model: ModelOption = None,
    tools: ToolsOption = None,
    mcp: McpOption = None,
    output: OutputOption = None,
    schema: SchemaOption = None,
    instructions: InstructionsOption = None,
    examples: ExamplesOption = None,
    tool_choice: ToolChoiceOption = "auto",
    parallel: ParallelOption = "on",
    thinking: ThinkingOption = Thinking.off,
    constrain: ConstrainOption = Constrain.auto,
    temperature: TemperatureOption = None,
    seed: SeedOption = None,
    max_tokens: MaxTokensOption = None,
    max_steps: MaxStepsOption = None,
    history: HistoryOption = None,
    save: Annotated[
        str | None,
        typer.Option("--save", metavar="FILE", help="Write the conversation there.", rich_help_panel="Conversation"),
    ] = None,
    trace: Annotated[
        str | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="Write the whole run there, also one that failed, for `hermes-sdk trace`.",
            rich_help_panel="Conversation",
        ),
    ] = None,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the answer alone.")] = False,
    debug: DebugOption = False,
) -> None:
    """Ask a question."""
    options = AgentOptions(
        model=model,
        tools=tools,
        mcp=mcp,
        output=output,
        schema=schema,
        instructions=instructions,
        thinking=thinking,
        tool_choice=tool_choice,
        parallel=parallel,
        examples=examples,
        temperature=temperature,
        seed=seed,
        max_tokens=max_tokens,
        max_steps=max_steps,
        constrain=constrain,
    )
    with reported(debug):
        _ask(_Asked(question, options, history, save, trace), as_json=as_json, quiet=quiet, debug=debug)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked of whom, and the files of the conversation."""

    question: str
    options: AgentOptions
    history: str | None
    save: str | None
    trace: str | None


def _ask(asked: _Asked, *, as_json: bool, quiet: bool, debug: bool) -> None:
    """Ask, and print what comes of it where it belongs."""
    if as_json:
        with stdout_kept() as out:
            _print_object(asked, out, debug)
    elif quiet or not sys.stdout.isatty():
        with stdout_kept() as out:
            result = _answered(asked, console(sys.stderr, quiet=quiet))
            print(safe(_as_text(asked.options.answer(), result.output)), file=out, flush=True)
    else:
        _answered(asked, console())


def _answered(asked: _Asked, shown: Console | Trace) -> RunResult[Any]:
    """Ask, watch, and save the conversation and the run."""
    from hermes_agent.cli import history as files
    from hermes_agent.cli.trace import watch
    from hermes_agent.cli.trace_file import kept

    files.check_writable(asked.save)
    files.check_writable(asked.trace)
    for other in (("--history", asked.history), ("--save", asked.save)):  # these two may be one: it goes on
        files.check_apart(("--trace", asked.trace), other)
    with asked.options.agent() as agent:
        earlier = files.load(asked.history)
        question = _something(read_text("-").strip()) if asked.question == "-" else asked.question
        with kept(asked.trace):
            result = watch(agent, question, earlier, shown)
    if asked.trace is not None:
        files.write(result.trace().to_json(), asked.trace)
    if asked.save is not None:
        files.save(result.messages, asked.save)
    return result


def _print_object(asked: _Asked, out: TextIO, debug: bool) -> None:
    """Ask, and print the answer or the error as one JSON object.

    Raises:
        typer.Exit: There is no answer; the object says why.
    """
    from hermes_agent.cli.trace import Trace
    from hermes_agent.errors import HermesError

    view, code = Trace(console(quiet=True)), 0
    report: dict[str, Any]
    try:
        result = _answered(asked, view)
        report = {"output": _as_value(asked.options.answer(), result.output), "guarantee": result.guarantee}
        report["messages"] = _plain(result.messages)
    except HermesError as error:
        if debug:
            raise
        report, code = {"error": _described(error), "messages": _plain_or_none(error.messages)}, 1
    except KeyboardInterrupt:
        stopped = _error("KeyboardInterrupt", "stopped by Ctrl-C")
        report, code = {"error": stopped, "messages": None}, INTERRUPTED
    report |= {"usage": asdict(view.usage), "seconds": round(view.seconds, 3)}
    print(json_line(report), file=out, flush=True)
    raise typer.Exit(code)


def _described(error: HermesError) -> dict[str, Any]:
    return _error(type(error).__name__, error.message, hint_of(error), error.raw, error.attempts)


def _error(name: str, message: str, hint: str = "", raw: str = "", attempts: Sequence[str] = ()) -> dict[str, Any]:
    return {"class": name, "message": message, "hint": hint, "raw": raw, "attempts": list(attempts)}


def _plain(messages: Sequence[Message]) -> Any:
    from hermes_agent.messages import Conversation

    return json.loads(Conversation(messages).to_json())["messages"]


def _plain_or_none(messages: Sequence[Message]) -> Any:
    """The conversation up to an error; ``None`` where it holds what JSON cannot, which the error then is about."""
    from hermes_agent.errors import ConfigurationError

    try:
        return _plain(messages)
    except ConfigurationError:
        return None


def _as_text(spec: Output[Any], answer: Any) -> str:
    return spec.serialise(answer)


def _as_value(spec: Output[Any], answer: Any) -> Any:
    text = spec.serialise(answer)
    return json.loads(text) if spec.kind == "json" else text
