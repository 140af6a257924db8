"""A function, or a schema, as something a model can call."""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict, cast, overload

from typing_extensions import Unpack

from hermes_agent.context import RunContext
from hermes_agent.errors import ToolDefinitionError
from hermes_agent.json_schema import compile_schema
from hermes_agent.result import ToolResultError, cut, result_text
from hermes_agent.schema import problem, pydantic_problems
from hermes_agent.signature import context_parameter, is_async, read_signature

__all__ = ["Tool", "ToolArgumentsError", "ToolResultError", "cut", "result_text", "tool"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,127}\Z")
"""What servers and grammars all take, and the dots, colons and slashes that real tool sets use besides."""

ToolFunction = Callable[..., object]

Approval = bool | Callable[[RunContext[Any], dict[str, Any]], "bool | Awaitable[bool]"]
"""Whether somebody must allow a call: always, or as a function of the context and the validated arguments says."""


class ToolSettings(TypedDict, total=False):
    """Keyword arguments of `tool` and `Tool.from_schema`; `Tool` explains them."""

    timeout: float | None
    approval: Approval
    sequential: bool
    idempotent: bool
    retries: int | None


class ToolArgumentsError(ValueError):
    """A call's arguments do not fit its tool; the text is written for the model to read.

    Attributes:
        problems: One line for each thing that is wrong: path, problem, value.
    """

    def __init__(self, name: str, problems: list[str]) -> None:
        super().__init__("\n".join([f"The arguments of {name!r} do not fit its schema:", *problems]))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Tool:
    """Something a model can call. Made by `tool`, `Tool.of` or `Tool.from_schema`.

    Attributes:
        name: What the model calls it by.
        description: What it is for, shown to the model.
        parameters: JSON schema of the arguments, of type ``object``. Read only.
        timeout: Seconds of wall clock one call may take; ``None`` leaves it to the run's limits.
        function: What is run; ``None`` if someone else runs it.
        approval: Whether a call waits until somebody allows it.
        sequential: Whether nothing else of the turn runs beside it.
        idempotent: Whether a call that was cut off, by a crash for one, may be run again unasked.
        retries: How many calls of this tool may go wrong in a row before the run ends; ``None`` leaves it to the
            run's ``corrections``.
        hand_off: Name of the agent that a call hands the conversation to; empty for every other tool.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    timeout: float | None = None
    function: ToolFunction | None = None
    approval: Approval = field(default=False, kw_only=True)
    sequential: bool = field(default=False, kw_only=True)
    idempotent: bool = field(default=False, kw_only=True)
    retries: int | None = field(default=None, kw_only=True)
    _read: Callable[[str], dict[str, Any]] = field(repr=False, compare=False, kw_only=True)
    _context: str | None = field(default=None, repr=False, compare=False, kw_only=True)
    _is_async: bool = field(default=False, repr=False, compare=False, kw_only=True)
    hand_off: str = field(default="", repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise ToolDefinitionError(
                f"{self.name!r} cannot be the name of a tool",
                hint="use 1 to 128 letters, digits and _ . : / -, or set one with tool(name=...)",
            )
        if self.timeout is not None and not self.timeout > 0:
            raise ToolDefinitionError(
                f"tool {self.name!r} has timeout={self.timeout!r}",
                hint="use seconds above 0, or None for the run's own",
            )
        if self.retries is not None and self.retries < 0:
            raise ToolDefinitionError(
                f"tool {self.name!r} has retries={self.retries!r}", hint="use 0 or more, or None for the run's own"
            )
        if not isinstance(cast("object", self.approval), bool) and not callable(self.approval):
            raise ToolDefinitionError(
                f"tool {self.name!r} has approval={self.approval!r}",
                hint="use True, False, or a function of the context and the arguments",
            )

    def __hash__(self) -> int:
        return hash((self.name, self.description))

    @property
    def is_async(self) -> bool:
        """Whether it runs on the event loop, where it can be cancelled, and not in a thread."""
        return self._is_async

    @property
    def takes_context(self) -> bool:
        """Whether ``call`` hands it a `RunContext`."""
        return self._context is not None

    @classmethod
    def of(cls, obj: Tool | ToolFunction) -> Tool:
        """A tool as it is, or a function as a tool.

        Raises:
            ToolDefinitionError: It cannot be a tool; the message says why and what to do.
        """
        return obj if isinstance(obj, Tool) else _from_function(obj)

    @classmethod
    def from_schema(
        cls,
        *,
        name: str,
        description: str = "",
        parameters: Mapping[str, Any],
        call: ToolFunction | None = None,
        **settings: Unpack[ToolSettings],
    ) -> Tool:
        """A tool known by the JSON schema of its arguments.

        Args:
            name: What the model calls it by.
            description: What it is for.
            parameters: JSON schema of type ``object``, of the draft its ``$schema`` names, else 2020-12.
            call: Runs the tool; it gets the arguments by keyword, after the context if its first parameter
                is annotated `RunContext`. Without it, someone else runs the calls: a run pauses for their results.
            settings: As in `tool`.

        Raises:
            ToolDefinitionError: The schema is not one, or is not that of an object.
        """
        if call is not None and not callable(call):
            raise ToolDefinitionError(f"tool {name!r} cannot call {call!r}", hint="give a function, or None")
        schema = {"type": "object", **parameters}
        if schema["type"] != "object":
            raise ToolDefinitionError(
                f"tool {name!r} has parameters of type {schema['type']!r}",
                hint="arguments are an object: use type 'object'",
            )
        try:
            problems = compile_schema(schema)
        except ValueError as error:
            raise ToolDefinitionError(
                f"tool {name!r} has parameters that are not a JSON schema: {error}", hint="correct the schema"
            ) from error

        def read(text: str) -> dict[str, Any]:
            arguments: dict[str, Any] = json.loads(text)
            if lines := problems(arguments):
                raise ToolArgumentsError(name, lines)
            return arguments

        return cls(
            name,
            description,
            schema,
            function=call,
            **settings,
            _read=read,
            _context=None if call is None else context_parameter(call),
            _is_async=is_async(call),
        )

    def validate(self, arguments: Mapping[str, object]) -> dict[str, Any]:
        """Keyword arguments for the function, from what a model wrote.

        Values are coerced where pydantic's lax JSON mode coerces (``"5"`` to 5 for an ``int``); a tool made
        from a schema coerces nothing. Unknown names are refused. Defaults stay the function's own.

        Args:
            arguments: Decoded JSON, by parameter name.

        Raises:
            ToolArgumentsError: They do not fit; the text lists every problem.
        """
        from pydantic import ValidationError

        try:
            text = json.dumps(arguments if isinstance(arguments, dict) else dict(arguments), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ToolArgumentsError(self.name, [problem((), f"not JSON: {error}")]) from error
        try:
            return self._read(text)
        except ValidationError as error:
            raise ToolArgumentsError(self.name, pydantic_problems(error, arguments)) from error

    async def call(self, kwargs: Mapping[str, object], context: RunContext[Any] | None = None) -> Any:
        """Run the function: an ``async def`` on the loop, a ``def`` in a worker thread.

        When the caller is cancelled, an ``async def`` is cancelled with it; a thread cannot be stopped, so
        it is left to finish and what it returns is dropped. A ``def`` that has something done on the event loop
        needs its token, as in ``anyio.from_thread.run(f, token=token)``.

        Args:
            kwargs: What ``validate`` returned.
            context: Handed over if the function takes one.

        Raises:
            ToolDefinitionError: There is no function, or it takes a context and there is none.
            BaseException: Whatever the function raises.
        """
        if self.function is None:
            raise ToolDefinitionError(
                f"tool {self.name!r} has only a schema and cannot be run here", hint="give from_schema(call=...)"
            )
        arguments = dict(kwargs)
        if self._context is not None:
            if context is None:
                raise ToolDefinitionError(f"tool {self.name!r} takes a RunContext", hint="pass context=RunContext(...)")
            arguments[self._context] = context
        if self._is_async:
            result = self.function(**arguments)
        else:
            from hermes_agent.threads import in_thread  # which needs asyncio

            result = await in_thread(functools.partial(self.function, **arguments))
        return await result if inspect.isawaitable(result) else result


def _from_function(
    function: ToolFunction,
    *,
    name: str | None = None,
    description: str | None = None,
    **settings: Unpack[ToolSettings],
) -> Tool:
    if isinstance(function, staticmethod):  # ``@tool`` above ``@staticmethod``
        function = cast("ToolFunction", function.__func__)
    read = read_signature(function)
    return Tool(
        read.name if name is None else name,
        read.description if description is None else description,
        read.parameters,
        function=function,
        **settings,
        _read=read.validate_json,
        _context=read.context,
        _is_async=is_async(function),
    )


@overload
def tool(function: ToolFunction, /) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    **settings: Unpack[ToolSettings],
) -> Callable[[ToolFunction], Tool]: ...
def tool(
    function: ToolFunction | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    **settings: Unpack[ToolSettings],
) -> Tool | Callable[[ToolFunction], Tool]:
    """Make a function a tool, bare or with settings; a plain function given to an agent needs none of this.

    Args:
        function: The function, when used bare.
        name: Instead of the function's name.
        description: Instead of its docstring.
        settings: ``timeout``, seconds of wall clock one call may take; ``approval``, whether a call waits until
            somebody allows it: ``True``, or a function of the `RunContext` and the validated arguments;
            ``sequential``, nothing else of the turn runs beside it; ``idempotent``, a call that was cut off by a crash
            may be run again unasked; ``retries``, how many of its calls may go wrong in a row.

    Raises:
        ToolDefinitionError: The function cannot be a tool; the message says why and what to do.
    """

    def make(function: ToolFunction) -> Tool:
        return _from_function(function, name=name, description=description, **settings)

    return make if function is None else make(function)
