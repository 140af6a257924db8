"""The options that several commands share, and the agent they describe."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from hermes_agent.cli.load import load_model, load_object, load_tools
from hermes_agent.cli.terminal import read_text
from hermes_agent.errors import ConfigurationError

if TYPE_CHECKING:
    from hermes_agent.agent import Agent
    from hermes_agent.messages import Example
    from hermes_agent.output import Output
    from hermes_agent.tool import Tool

__all__ = [
    "AgentOptions",
    "Constrain",
    "ConstrainOption",
    "DebugOption",
    "ExamplesOption",
    "HistoryOption",
    "InstructionsOption",
    "JsonOption",
    "MaxStepsOption",
    "MaxTokensOption",
    "McpOption",
    "ModelOption",
    "OutputOption",
    "ParallelOption",
    "SchemaOption",
    "SeedOption",
    "TemperatureOption",
    "Thinking",
    "ThinkingOption",
    "ToolChoiceOption",
    "ToolsOption",
    "examples",
    "output_type",
    "parallel",
    "tools",
]

_TOOLS, _SAMPLING, _CONVERSATION = "Tools and answer", "Model", "Conversation"


class Thinking(StrEnum):
    """Values of ``--thinking``."""

    off = "off"
    on = "on"
    auto = "auto"


class Constrain(StrEnum):
    """Values of ``--constrain``."""

    auto = "auto"
    strict = "strict"
    off = "off"


ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="embedded, hf:<hub id or folder>, a server (vllm:<model>@<url>), or path.py:name of a Model. "
        "Without it HERMES_SDK_MODEL, else embedded.",
        rich_help_panel=_SAMPLING,
    ),
]
ToolsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tools",
        "-t",
        metavar="TOOL",
        help="path.py:function, path.py (every public typed function in it), package.module:function, or a "
        "ready-made tool such as calculator or clock. May be repeated.",
        rich_help_panel=_TOOLS,
    ),
]
McpOption = Annotated[
    list[str] | None,
    typer.Option(
        "--mcp",
        metavar="SERVER",
        help="Take the tools of an MCP server: its URL, or the command line that starts it. name= before it puts name_ "
        "before the names of its tools. May be repeated.",
        rich_help_panel=_TOOLS,
    ),
]
OutputOption = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="TYPE",
        help="Type of the answer: path.py:Type or package.module:Type, or str, int, float, bool.",
        rich_help_panel=_TOOLS,
    ),
]
SchemaOption = Annotated[
    str | None,
    typer.Option("--schema", metavar="FILE", help="JSON schema of the answer.", rich_help_panel=_TOOLS),
]
ToolChoiceOption = Annotated[
    str,
    typer.Option(
        "--tool-choice",
        metavar="CHOICE",
        help="auto, required, none, or the name of a tool that must be called.",
        rich_help_panel=_TOOLS,
    ),
]
ParallelOption = Annotated[
    str,
    typer.Option(
        "--parallel",
        metavar="on|off|N",
        help="Whether one turn may hold several calls, or at most how many.",
        rich_help_panel=_TOOLS,
    ),
]
InstructionsOption = Annotated[
    str | None,
    typer.Option("--instructions", "-i", metavar="TEXT", help="What the model is told first.", rich_help_panel=_TOOLS),
]
ExamplesOption = Annotated[
    str | None,
    typer.Option(
        "--examples",
        metavar="FILE",
        help="Worked questions, for small models, as a JSON list of objects with question, calls (lists of "
        "name, arguments and result) and answer.",
        rich_help_panel=_TOOLS,
    ),
]
ThinkingOption = Annotated[
    Thinking, typer.Option("--thinking", help="Whether the model thinks first.", rich_help_panel=_SAMPLING)
]
ConstrainOption = Annotated[
    Constrain,
    typer.Option(
        "--constrain",
        help="Enforce the turn grammar where the model can, insist on it, or only validate afterwards.",
        rich_help_panel=_SAMPLING,
    ),
]
TemperatureOption = Annotated[
    float | None,
    typer.Option("--temperature", min=0, help="0 is greedy. Default: the model's own.", rich_help_panel=_SAMPLING),
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Makes a draw repeatable.", rich_help_panel=_SAMPLING)]
MaxTokensOption = Annotated[
    int | None, typer.Option("--max-tokens", min=1, help="Most tokens of one turn.", rich_help_panel=_SAMPLING)
]
MaxStepsOption = Annotated[
    int | None, typer.Option("--max-steps", min=1, help="Most turns of the model.", rich_help_panel=_SAMPLING)
]
HistoryOption = Annotated[
    str | None,
    typer.Option(
        "--history", metavar="FILE", help="Go on from a conversation that --save wrote.", rich_help_panel=_CONVERSATION
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")]
DebugOption = Annotated[
    bool, typer.Option("--debug", envvar="HERMES_SDK_DEBUG", help="Show the traceback of an error.", show_envvar=False)
]

_PLAIN_TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}


def tools(specs: list[str] | None) -> list[Tool]:
    """The tools of ``--tools``."""
    return load_tools(specs or [])


def output_type(output: str | None, schema: str | None) -> Any:
    """What ``Agent(output=...)`` is given for ``--output`` and ``--schema``.

    Raises:
        ConfigurationError: Both are given, or one leads nowhere.
    """
    from hermes_agent.output import JsonSchema

    if output is not None and schema is not None:
        raise ConfigurationError(
            f"both --output {output!r} and --schema {schema!r} say what the answer is", hint="give one of them"
        )
    if schema is not None:
        data = _json_file(schema)
        if not isinstance(data, dict):
            raise ConfigurationError(f"{schema!r} holds no JSON schema but {data!r:.80}", hint="give an object")
        return JsonSchema(cast("dict[str, Any]", data))
    if output is None:
        return str
    return _PLAIN_TYPES[output] if output in _PLAIN_TYPES else load_object(output)


def parallel(value: str) -> bool | int:
    """What ``parallel=`` is given for ``--parallel``.

    Raises:
        typer.BadParameter: It is neither on, off nor a number from 1 on.
    """
    if value in ("on", "off"):
        return value == "on"
    if value.isdecimal() and int(value) > 0:
        return int(value)
    raise typer.BadParameter(f"{value!r} is not one of on, off or a number from 1 on", param_hint="--parallel")


def examples(file: str | None) -> list[Example]:
    """The worked questions of ``--examples``.

    Raises:
        ConfigurationError: The file holds something else; the message says where.
    """
    if file is None:
        return []
    data = _json_file(file)
    if not isinstance(data, list):
        raise ConfigurationError(f"{file!r} holds no list of examples but {data!r:.80}", hint=_EXAMPLE_HINT)
    return [_example(item, f"{file}[{index}]") for index, item in enumerate(cast("list[object]", data))]


_EXAMPLE_HINT = (
    'an example is {"question": "What is 2 * 3?", "calls": [["calculator", {"expression": "2 * 3"}, "6"]], '
    '"answer": "6"}; calls and answer may be left out'
)


def _example(item: object, where: str) -> Example:
    from pydantic import BaseModel, ConfigDict, ValidationError

    from hermes_agent.messages import Example

    class Written(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)
        question: str
        calls: list[tuple[str, dict[str, Any], str]] = []
        answer: str = ""

    try:
        read = Written.model_validate_json(json.dumps(item))
    except ValidationError as error:
        first = error.errors()[0]
        path = "".join(f"[{part!r}]" for part in first["loc"])
        raise ConfigurationError(
            f"{where}{path}: {first['msg']}, got {first['input']!r:.80}", hint=_EXAMPLE_HINT
        ) from error
    return Example(read.question, read.calls, read.answer)


def _json_file(file: str) -> Any:
    try:
        return json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{file!r} is not JSON: {error}", hint="correct the file") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """The options of ``run`` and ``chat``, as given."""

    model: str | None
    tools: list[str] | None
    mcp: list[str] | None
    output: str | None
    schema: str | None
    instructions: str | None
    thinking: Thinking
    tool_choice: str
    parallel: str
    examples: str | None
    temperature: float | None
    seed: int | None
    max_tokens: int | None
    max_steps: int | None
    constrain: Constrain

    def answer(self) -> Output[Any]:
        """What the answer must be."""
        from hermes_agent.output import Output

        return Output.of(output_type(self.output, self.schema))

    @contextmanager
    def agent(self) -> Generator[Agent[None, Any]]:
        """The agent they describe; its MCP servers are connected for the length of the block.

        Raises:
            ConfigurationError: Something is wrong with one of them.
            McpServerError: A server cannot be reached.
        """
        from hermes_agent.cli.mcp import server_tools

        with server_tools(self.mcp) as more:
            yield self._agent(more)

    def _agent(self, more: Sequence[Tool]) -> Agent[None, Any]:
        from hermes_agent.agent import Agent
        from hermes_agent.limits import Limits
        from hermes_agent.sampling import Sampling

        bounds = {"turn_tokens": self.max_tokens, "steps": self.max_steps}
        return Agent(
            load_model(self.model),
            tools=[*tools(self.tools), *more],
            output=output_type(self.output, self.schema),
            instructions=self.instructions,
            examples=examples(self.examples),
            tool_choice=self.tool_choice,
            parallel=parallel(self.parallel),
            reasoning=self.thinking.value,
            sampling=Sampling(temperature=self.temperature, seed=self.seed),
            limits=Limits(**{name: bound for name, bound in bounds.items() if bound is not None}),
            constrain=self.constrain.value,
        )
