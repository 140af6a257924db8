"""From what a user gives an agent to what its runs go by: everything is checked once, here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast, get_args

from hermes_agent.calls import OnToolError
from hermes_agent.errors import ConfigurationError
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.formats.wire import dump_json
from hermes_agent.hooks import Hooks
from hermes_agent.limits import Limits
from hermes_agent.messages import Example, Message, SystemMessage
from hermes_agent.models.base import Constrain, Model
from hermes_agent.output import Output, OutputError
from hermes_agent.plan import OnLimit, Plan
from hermes_agent.reasoning import Reasoning
from hermes_agent.sampling import Sampling
from hermes_agent.tool import Tool, ToolArgumentsError
from hermes_agent.validators import OutputValidator, Validator

if TYPE_CHECKING:
    from hermes_agent.history import HistoryPolicy

__all__ = ["ToolLike", "check_list", "settle"]

ToolLike = Tool | Callable[..., Any]


def settle(
    *,
    tools: Iterable[ToolLike],
    transfers: Sequence[Tool],
    output: Output[Any],
    instructions: str | None,
    examples: Iterable[Example],
    tool_choice: str,
    parallel: bool | int,
    reasoning: Reasoning,
    sampling: Sampling,
    limits: Limits,
    constrain: Constrain,
    on_tool_error: OnToolError,
    on_limit: OnLimit,
    name: str,
    validators: Iterable[OutputValidator],
    hooks: Iterable[Hooks[Any]],
    sequential: bool,
    history_policy: HistoryPolicy | None,
    hand_offs: Mapping[str, Callable[[], tuple[Plan, Model]]],
) -> Plan:
    """The plan of an agent; `Agent` explains the arguments.

    Raises:
        ConfigurationError: Something cannot work; the message names the value and the way out.
    """
    _one_of("constrain", constrain, get_args(Constrain))
    _one_of("on_tool_error", on_tool_error, get_args(OnToolError))
    _one_of("on_limit", on_limit, get_args(OnLimit))
    check_list("tools", tools)
    check_list("examples", examples)
    check_list("validators", validators)
    check_list("hooks", hooks)
    if not isinstance(cast("object", limits), Limits):
        raise ConfigurationError(f"limits={limits!r} is not a Limits", hint="pass limits=Limits(...)")
    given = (*map(Tool.of, tools), *transfers)
    _check_room(reasoning, limits)

    def turn(choice: str, *, inline: bool) -> TurnGrammar:
        return TurnGrammar(given, output, choice, parallel, reasoning, inline=inline)

    inline = reasoning.mode != "off" and reasoning.calls == "inline"
    grammar = turn(tool_choice, inline=inline)
    forced = tool_choice not in ("auto", "none")
    system = (SystemMessage(instructions),) if instructions else ()
    worked = tuple(message for example in examples for message in _worked(example, given, output))
    return Plan(
        tools={tool.name: tool for tool in given},
        output=output,
        opening=(*system, *worked),
        grammar=grammar,
        later_grammar=turn("auto", inline=inline) if forced else grammar,
        reasoning=reasoning,
        sampling=sampling,
        limits=limits,
        constrain=constrain,
        on_tool_error=on_tool_error,
        name=name,
        last_grammar=turn("none", inline=False) if on_limit == "answer" else grammar,
        on_limit=on_limit,
        validators=tuple(map(Validator.of, validators)),
        hooks=tuple(map(_hook, hooks)),
        sequential=sequential,
        history_policy=history_policy,
        hand_offs=hand_offs,
    )


def check_list(name: str, value: object) -> None:
    """Whether an argument that takes several things was given several.

    Raises:
        ConfigurationError: It is one thing.
    """
    if not isinstance(value, Iterable) or isinstance(value, str):
        raise ConfigurationError(f"{name}={value!r} is not a list", hint=f"pass {name}=[...], even for one")


def _hook(hook: Hooks[Any]) -> Hooks[Any]:
    if not isinstance(cast("object", hook), Hooks):
        raise ConfigurationError(f"hooks holds {hook!r}", hint="give objects of a class made from Hooks")
    return hook


def _check_room(thinking: Reasoning, limits: Limits) -> None:
    """A thought may not take all that a turn may have.

    Raises:
        ConfigurationError: No answer would fit behind it.
    """
    if thinking.max_tokens is not None and limits.turn_tokens is not None and thinking.max_tokens >= limits.turn_tokens:
        raise ConfigurationError(
            f"Reasoning(max_tokens={thinking.max_tokens!r}) leaves no room for an answer in "
            f"Limits(turn_tokens={limits.turn_tokens!r})",
            hint="raise turn_tokens above max_tokens, or lower max_tokens",
        )


def _worked(example: Example, tools: Sequence[Tool], output: Output[Any]) -> Sequence[Message]:
    """An example as messages: checked, and spelled as the grammar lets the model spell it.

    Raises:
        ConfigurationError: It shows the model something that it could not do itself.
    """
    from hermes_agent.formats.schema import in_schema_order

    known = {tool.name: tool for tool in tools}
    hint = "worked examples must be what the model is to write itself"
    calls: list[tuple[str, Mapping[str, Any], str]] = []
    for name, arguments, result in example.calls:
        if name not in known:
            raise ConfigurationError(
                f"the example {example.question!r} calls {name!r}, which is not among the tools", hint=hint
            )
        try:
            known[name].validate(arguments)
        except ToolArgumentsError as error:
            raise ConfigurationError(f"the example {example.question!r} is wrong: {error}", hint=hint) from error
        calls.append((name, in_schema_order(arguments, known[name].parameters), result))
    answer = example.answer
    if answer and output.kind != "text":
        try:
            output.validate(answer)
        except OutputError as error:
            raise ConfigurationError(f"the example {example.question!r} is wrong: {error}", hint=hint) from error
        if output.schema is not None:
            answer = dump_json(in_schema_order(json.loads(answer), output.schema))
    return replace(example, calls=calls, answer=answer).messages()


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigurationError(f"{name}={value!r} is not known", hint=f"use one of {', '.join(map(repr, allowed))}")
