"""A function's signature and docstring, read into a JSON schema and a validator of its arguments."""

from __future__ import annotations

import functools
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn, NotRequired, cast, get_origin

from typing_extensions import TypedDict

from hermes_agent.context import RunContext
from hermes_agent.docstring import Docstring, read_docstring
from hermes_agent.errors import ToolDefinitionError
from hermes_agent.schema import first_line, python_schema

__all__ = ["Signature", "context_parameter", "is_async", "read_signature"]

_CONTEXT = re.compile(r"(\w+\.)*RunContext(\[.*\])?\Z", re.DOTALL)

_EMPTY = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Signature:
    """What there is to know about a function that is to be a tool.

    Attributes:
        name: Its ``__name__``, or the name of its class if it is a callable object.
        description: What its docstring says, without the parameters.
        parameters: JSON schema of its arguments, an object.
        context: Name of the parameter that takes the `RunContext`, or ``None``.
        validate_json: Reads arguments from JSON text into keyword arguments; raises pydantic's error.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    context: str | None
    validate_json: Callable[[str], dict[str, Any]]


def read_signature(function: Callable[..., object]) -> Signature:
    """Read a function, a bound method, a callable object or a partial of one.

    Raises:
        ToolDefinitionError: It cannot be a tool; the message says why and what to do.
    """
    bare = _bare(function)
    shown = _shown(function, bare)
    _check_kind(function, bare, shown)
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError) as error:
        _refuse(shown, f"has no signature that can be read ({error})", "wrap it in a function with typed parameters")
    bound = function.keywords if isinstance(function, functools.partial) else {}
    context: str | None = None
    fields: dict[str, Any] = {}
    defaults: dict[str, object] = {}
    for position, parameter in enumerate(signature.parameters.values()):
        if parameter.name in bound:
            continue
        _check_parameter(parameter, shown, first=position == 0)
        annotation = _annotation(parameter, bare, shown, first=position == 0)
        if _is_context(annotation):
            if position:
                _refuse(shown, f"takes the context second or later, as {parameter.name!r}", "put that parameter first")
            context = parameter.name
            continue
        fields[parameter.name], default = _field(annotation, parameter.default)
        if default is not _EMPTY:
            defaults[parameter.name] = default
    schema, validate = _compile(fields, shown)
    doc = _doc(bare)
    _annotate(schema, {_wire_name(name, kind): name for name, kind in fields.items()}, doc.parameters, defaults)
    return Signature(shown, doc.description, schema, context, validate)


def is_async(function: object) -> bool:
    """Whether calling it gives a coroutine, as far as can be told without calling it."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(_method(function))


def context_parameter(function: Callable[..., object]) -> str | None:
    """Name of the first parameter if it is annotated as a `RunContext`."""
    try:
        first = next(iter(inspect.signature(function).parameters.values()), None)
    except (ValueError, TypeError):
        return None
    if first is None:
        return None
    bare = _bare(function)
    annotation = _annotation(first, bare, _shown(function, bare), first=True)
    return first.name if _is_context(annotation) else None


def _bare(function: object) -> Any:
    """The function under partials and ``functools.wraps``."""
    bare: Any = function
    while True:
        if isinstance(bare, functools.partial):
            bare = bare.func
        elif hasattr(bare, "__wrapped__"):
            bare = bare.__wrapped__
        else:
            return bare


def _method(function: Any) -> Any:
    """The function that runs when ``function`` is called; for a callable object, its class's ``__call__``."""
    return function if inspect.isroutine(function) else getattr(cast("object", type(function)), "__call__", None)  # noqa: B004  # the method itself is wanted


def _shown(function: object, bare: object) -> str:
    name = getattr(function, "__name__", None) or getattr(bare, "__name__", None)
    return name if isinstance(name, str) else type(bare).__name__


def _refuse(name: str, why: str, hint: str) -> NoReturn:
    raise ToolDefinitionError(f"{name!r} cannot be a tool: it {why}", hint=hint)


def _check_kind(function: object, bare: object, shown: str) -> None:
    if inspect.isclass(bare):
        _refuse(shown, "is a class", "write a function that builds and returns it")
    if not callable(function):
        _refuse(shown, f"is not callable: {function!r}", "give a function")
    if shown == "<lambda>":
        _refuse(shown, "is a lambda, which has neither a name nor annotations", "write it as a def")
    call = _method(function.func if isinstance(function, functools.partial) else function)
    if inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call):
        _refuse(shown, "is a generator function, and a tool gives one result", "return a list instead of yielding")


def _check_parameter(parameter: inspect.Parameter, shown: str, *, first: bool) -> None:
    name = parameter.name
    match parameter.kind:
        case inspect.Parameter.POSITIONAL_ONLY:
            _refuse(shown, f"takes {name!r} by position only", "drop the '/', since tools are called by name")
        case inspect.Parameter.VAR_POSITIONAL:
            _refuse(shown, f"takes any number of arguments (*{name})", f"take one list parameter {name!r} instead")
        case inspect.Parameter.VAR_KEYWORD:
            _refuse(shown, f"takes arguments of any name (**{name})", f"name them, or take one dict parameter {name!r}")
        case _:
            pass
    if parameter.annotation is _EMPTY:
        hint = f"annotate it, such as {name}: str"
        if first and name in ("self", "cls"):
            hint = "give the bound method, such as tool(thing.method), not the function in its class"
        _refuse(shown, f"does not say what type its parameter {name!r} has", hint)


def _is_context(annotation: object) -> bool:
    if isinstance(annotation, str):
        return _CONTEXT.match(annotation.strip()) is not None
    if get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation is RunContext or get_origin(annotation) is RunContext


def _annotation(parameter: inspect.Parameter, bare: Any, shown: str, *, first: bool) -> Any:
    """The parameter's annotation with its names resolved; a context's is left as text if they are not there."""
    annotation = parameter.annotation
    if annotation is _EMPTY:
        return annotation
    call = _method(bare)
    function = getattr(call, "__func__", call)

    def holder() -> None: ...

    holder.__annotations__ = {"it": annotation}
    names = getattr(function, "__globals__", {})
    try:
        return typing.get_type_hints(holder, globalns=names, localns=_locals(function), include_extras=True)["it"]
    except NameError as error:
        if first and isinstance(annotation, str) and _is_context(annotation):
            return annotation
        _refuse(
            shown,
            f"annotates {parameter.name!r} as {annotation!r}, where {error}",
            "import the name at module level, outside of TYPE_CHECKING",
        )
    except (TypeError, SyntaxError, AttributeError) as error:
        _refuse(shown, f"annotates {parameter.name!r} as {annotation!r}: {error}", "give it a type")


def _locals(function: Any) -> dict[str, object]:
    """Names that the function's annotations may use besides its module's: its closure and its defining scope.

    The defining scope is searched only while it still runs, and it is known by its qualified name.
    """
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType):
        return {}
    scope: dict[str, object] = {}
    outer, inside, _ = code.co_qualname.rpartition(".<locals>.")
    frame = sys._getframe() if inside else None  # pyright: ignore[reportPrivateUsage]  # the documented way to a frame
    while frame is not None:
        if frame.f_code.co_qualname == outer and frame.f_globals is function.__globals__:
            scope.update(frame.f_locals)
            break
        frame = frame.f_back
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            scope[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return scope


def _field(annotation: Any, default: object) -> tuple[Any, object]:
    """The annotation as a field of a TypedDict, and the default that the function itself fills in."""
    from pydantic.fields import FieldInfo

    if isinstance(default, FieldInfo):  # ``x: int = Field(3, ge=1)``: pydantic fills it in, the function cannot
        return Annotated[annotation, default], _EMPTY
    return (annotation, default) if default is _EMPTY else (NotRequired[annotation], default)


def _compile(fields: dict[str, Any], shown: str) -> tuple[dict[str, Any], Callable[[str], dict[str, Any]]]:
    """Schema and validator of an object of these fields: a TypedDict, because its keys may have any name."""
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter
    from pydantic_core import SchemaError

    kind = cast("Any", TypedDict)("Arguments", fields)  # through Any, as its fields are known only now
    kind.__pydantic_config__ = ConfigDict(extra="forbid")
    try:
        adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(kind)
        schema = python_schema(adapter)
    except (PydanticUserError, SchemaError, TypeError, NameError) as error:
        _refuse(
            shown,
            f"has a parameter {_culprit(fields)!r} that pydantic cannot read from JSON: {first_line(error)}",
            "annotate it with a type that JSON can carry",
        )
    return schema, adapter.validator.validate_json


def _culprit(fields: Mapping[str, Any]) -> str | None:
    """The parameter whose type is to blame, looked for only after something failed."""
    from pydantic import PydanticUserError, TypeAdapter
    from pydantic_core import SchemaError

    for name, kind in fields.items():
        try:
            python_schema(TypeAdapter(_without_not_required(kind)))
        except (PydanticUserError, SchemaError, TypeError, NameError):
            return name
    return None


def _without_not_required(kind: Any) -> Any:
    return typing.get_args(kind)[0] if get_origin(kind) is NotRequired else kind


def _wire_name(name: str, kind: Any) -> str:
    """What the model calls a parameter: its name, or the alias a Field gives it."""
    from pydantic.fields import FieldInfo

    alias = FieldInfo.from_annotation(_without_not_required(kind)).validation_alias
    return alias if isinstance(alias, str) else name


def _doc(bare: Any) -> Docstring:
    """A function's docstring; for a callable object that of its class, else of its ``__call__``."""
    if inspect.isroutine(bare):
        return read_docstring(bare.__doc__ or inspect.getdoc(bare))  # getdoc knows what a method inherits
    own, call = (read_docstring(inspect.getdoc(it)) for it in (cast("object", type(bare)), _method(bare)))
    return Docstring(own.description or call.description, {**own.parameters, **call.parameters})


def _annotate(
    schema: dict[str, Any], names: Mapping[str, str], docs: Mapping[str, str], defaults: Mapping[str, object]
) -> None:
    """Add what pydantic cannot see: the docstring's words, and the defaults that the function fills in."""
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    for wire_name, part in schema.get("properties", {}).items():
        name = names.get(wire_name, wire_name)
        if name in docs:
            part.setdefault("description", docs[name])
        if name in defaults and defaults[name] is not None:
            try:
                plain = to_jsonable_python(defaults[name])
                json.dumps(plain, allow_nan=False)
            except (PydanticSerializationError, ValueError):
                continue  # the parameter stays optional; only its default cannot be shown
            part["default"] = plain
