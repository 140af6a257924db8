"""Hermes 4's editing task: a broken object made valid, telling what was changed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, NamedTuple, cast, overload

from typing_extensions import TypedDict, TypeForm, TypeVar, Unpack

from hermes_agent.agent import Agent
from hermes_agent.blocking import waited_for
from hermes_agent.context import Retry, RunContext
from hermes_agent.errors import InvalidOutputError
from hermes_agent.extract.given import check_text, output_of
from hermes_agent.extract.lenient import read_leniently
from hermes_agent.formats.repair import UnreadableCallError, decode
from hermes_agent.formats.scan import ValueScanner
from hermes_agent.json_text import dump_json, pointer
from hermes_agent.limits import NOTHING, Limits, Usage
from hermes_agent.models.base import Constrain, Guarantee, ModelLike
from hermes_agent.output import JsonSchema, Output, OutputError
from hermes_agent.reasoning import Mode, Reasoning
from hermes_agent.sampling import Sampling
from hermes_agent.validators import OutputValidator, Validator

__all__ = ["ABSENT", "Absent", "Change", "Repaired", "Settings", "repair", "repair_async"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Absent:
    """Stands for a value that is not there."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()
"""There is no such value, on this side of a change."""


class Change(NamedTuple):
    """What was changed at one place.

    Attributes:
        pointer: Where, as a JSON pointer (RFC 6901).
        before: What could be read there of the broken text, or `ABSENT`.
        after: What stands there now, or `ABSENT`.
    """

    pointer: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Repaired(Generic[T_co]):
    """A value, and what had to be done to the text for it.

    Attributes:
        output: The validated value.
        text: The JSON that it was read from.
        changes: How its values differ from those of the broken text, as far as that could be read.
        repairs: Mechanical repairs of the notation, by name; then no model was asked.
        usage: What it cost.
        attempts: How often the model wrote an answer; 0 if it was not asked.
        guarantee: The weakest enforcement any turn had; ``None`` if the model was not asked.
    """

    output: T_co
    text: str
    changes: tuple[Change, ...]
    repairs: tuple[str, ...] = ()
    usage: Usage = NOTHING
    attempts: int = 0
    guarantee: Guarantee | None = None


class Settings(TypedDict, total=False):
    """Keyword arguments of a repair; as for `hermes_agent.extract.Extractor`."""

    instructions: str | None
    reasoning: Reasoning | Mode | bool
    sampling: Sampling
    limits: Limits
    constrain: Constrain
    validators: Iterable[OutputValidator]


# The wording that Hermes 4 was trained on, with a JSON schema in place of the pydantic model; the schema itself stands
# in the system prompt of JSON mode.
_PROMPT = """\
The following data contains errors and should be corrected to conform to the provided JSON schema.

Erroneous Data:
{fence}json
{text}
{fence}

Errors:
{problems}

Please identify and fix the errors, then provide the corrected data in the requested format. \
Keep everything that is not wrong as it is."""

_FENCED = re.compile(r"\s*```[A-Za-z0-9]*[ \t]*\r?\n(.*?)\r?\n?```\s*\Z", re.DOTALL)
_BEYOND_DOUBT = re.compile(r"(?:[\"}\]]|true|false|null)\s*\Z")


@overload
def repair(
    output: JsonSchema | Mapping[str, Any],
    broken: str,
    *,
    model: ModelLike | None = ...,
    **settings: Unpack[Settings],
) -> Repaired[Any]: ...
@overload
def repair(
    output: TypeForm[T], broken: str, *, model: ModelLike | None = ..., **settings: Unpack[Settings]
) -> Repaired[T]: ...
def repair(output: Any, broken: str, *, model: ModelLike | None = None, **settings: Unpack[Settings]) -> Repaired[Any]:
    """Make a malformed or invalid JSON object valid.

    What can be put right without a doubt is, and no model is asked: a code fence around it, Python's spelling, a
    trailing comma, raw line breaks in strings, brackets that were not closed behind a whole value.

    Args:
        output: The type it should be of: anything pydantic knows, or a JSON schema.
        broken: The text.
        model: As for `hermes_agent.Agent`.
        **settings: As for `hermes_agent.extract.Extractor`.

    Raises:
        InvalidOutputError: There is no text, or the model's answers stayed invalid; ``attempts`` holds them.
        ModelError: The model could not write.
        ConfigurationError: The type has no JSON, or an event loop is running: `repair_async` is for there.

    Example:
        >>> from pydantic import BaseModel
        >>> from hermes_agent.testing import ScriptedModel
        >>> class Invoice(BaseModel):
        ...     total: float
        >>> repair(Invoice, "{'total': 12.5,}").repairs
        ('python_literal', 'trailing_comma')
        >>> repair(Invoice, '{"sum": "12.50 EUR"}', model=ScriptedModel(['{"total": 12.5}'])).changes
        (Change(pointer='/sum', before='12.50 EUR', after=ABSENT), Change(pointer='/total', before=ABSENT, after=12.5))
    """
    call = cast("Callable[..., Any]", repair_async)
    mend = partial(call, output, broken, model=model, **settings)
    return cast("Repaired[Any]", waited_for(mend, called="repair()", instead="repair_async(...)"))


@overload
async def repair_async(
    output: JsonSchema | Mapping[str, Any],
    broken: str,
    *,
    model: ModelLike | None = ...,
    **settings: Unpack[Settings],
) -> Repaired[Any]: ...
@overload
async def repair_async(
    output: TypeForm[T], broken: str, *, model: ModelLike | None = ..., **settings: Unpack[Settings]
) -> Repaired[T]: ...
async def repair_async(
    output: Any, broken: str, *, model: ModelLike | None = None, **settings: Unpack[Settings]
) -> Repaired[Any]:
    """`repair`, awaited. Arguments and errors are the same."""
    asked = output_of(output)
    check_text(broken)
    if not broken.strip():
        raise InvalidOutputError("there is nothing to repair: the text is empty", hint="leave such texts out")
    text, repairs = mechanical(broken)
    try:
        value = await _accepted(asked, text, settings.get("validators", ()))
    except (OutputError, Retry) as error:
        return await _edited(asked, broken, str(error), model, settings)
    return Repaired(value, text, (), repairs)


def mechanical(text: str) -> tuple[str, tuple[str, ...]]:
    """The text as JSON, if there is no doubt what it means, and the repairs this took; else the text as it is."""
    body = text.removeprefix("\ufeff")
    fenced = _FENCED.match(body)
    body = (fenced[1] if fenced else body).strip()
    used: list[str] = ["code_fence"] if fenced else []
    for tried, name in _closed(body):
        try:
            value, needed = decode(tried)
        except UnreadableCallError:
            continue
        names = (*used, *needed, *([name] if name else []))
        return (dump_json(value) if needed else tried), names
    return text, ()


def _closed(text: str) -> Iterator[tuple[str, str]]:
    """The text, and the text with the right number of closing brackets, if what is inside of them is whole."""
    yield text, ""
    if text[:1] not in ("{", "["):
        return
    scanner = ValueScanner()
    at, status = scanner.feed(text, 0)
    if status == "more" and scanner.open and _BEYOND_DOUBT.search(text):
        yield text + "".join(reversed(scanner.open)), "missing_brace"
    elif status == "done" and not text[at:].strip(" \t\r\n]}"):
        yield text[:at], "extra_brace"


async def _accepted(output: Output[T], text: str, validators: Iterable[OutputValidator]) -> T:
    value = output.validate(text)
    for validator in map(Validator.of, validators):
        try:
            value = await validator.check(value, RunContext(deps=None, agent="repair"))
        except ValueError as error:
            raise Retry(str(error)) from error
    return value


async def _edited(
    output: Output[Any], broken: str, problems: str, model: ModelLike | None, settings: Settings
) -> Repaired[Any]:
    before = read_leniently(broken)
    try:
        json.loads(broken)
    except (ValueError, RecursionError):  # what is wrong besides the notation is not known yet
        try:
            output.validate(dump_json(before))
        except (OutputError, ValueError, RecursionError) as error:
            problems += f"\n{error}" if isinstance(error, OutputError) and str(error) != problems else ""
    longest = max((len(run) for run in re.findall("`+", broken)), default=0)
    prompt = _PROMPT.format(fence="`" * max(3, longest + 1), text=broken, problems=problems)
    make = cast("Callable[..., Agent[None, Any]]", Agent)
    usual: Settings = {"sampling": Sampling(temperature=0.0), "limits": Limits(corrections=2)}
    agent = make(model, output=output, name="repair", **{**usual, **settings})
    result = await agent.run(prompt)
    text = result.turns[-1].text
    if settings.get("validators") and (made := output.serialise(result.output)) != output.serialise(
        output.validate(text)
    ):
        text = made  # by a validator
    changes = tuple(_differences(before, json.loads(text), ()))
    return Repaired(result.output, text, changes, (), result.usage, len(result.turns), result.guarantee)


def _differences(before: Any, after: Any, path: tuple[str | int, ...]) -> Iterator[Change]:
    if isinstance(before, dict) and isinstance(after, dict):
        old, new = cast("dict[str, Any]", before), cast("dict[str, Any]", after)
        for name in [*old, *(name for name in new if name not in old)]:
            yield from _differences(old.get(name, ABSENT), new.get(name, ABSENT), (*path, name))
    elif isinstance(before, list) and isinstance(after, list):
        was, now = cast("list[object]", before), cast("list[object]", after)
        for index in range(max(len(was), len(now))):
            one = was[index] if index < len(was) else ABSENT
            yield from _differences(one, now[index] if index < len(now) else ABSENT, (*path, index))
    elif before != after or isinstance(before, bool) != isinstance(after, bool):
        yield Change(pointer(path), before, after)
