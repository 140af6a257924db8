"""What users give to an extraction, checked: the type, the text, what to do with errors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from hermes_agent.errors import ConfigurationError, InvalidOutputError
from hermes_agent.formats.schema import in_schema_order
from hermes_agent.json_schema import compile_schema
from hermes_agent.json_text import dump_json
from hermes_agent.messages import Example
from hermes_agent.output import JsonSchema, Output, OutputError, Regex

__all__ = ["OnError", "check_apart", "check_on_error", "check_text", "example_of", "nothing_there", "output_of"]

OnError = Literal["raise", "return"]


def output_of(spec: Any) -> Output[Any]:
    """The type of the value.

    Raises:
        ConfigurationError: It cannot be extracted.
    """
    if isinstance(spec, Mapping):
        return Output.of(JsonSchema(cast("Mapping[str, Any]", spec)))
    if spec is str or isinstance(spec, Regex | re.Pattern):
        raise ConfigurationError(
            f"{spec!r} has no fields to extract", hint="give a type that is JSON, or use hermes_agent.Agent"
        )
    return Output.of(spec)


def example_of(output: Output[Any], text: str, value: Any) -> Example:
    """A worked text; its value stands as the grammar will have the model write it, in the order of the schema.

    Args:
        output: The type.
        text: The text.
        value: A value of the type, or what JSON has in its place, such as a mapping for a model.

    Raises:
        ConfigurationError: The value is neither.
    """
    try:
        return Example(text, answer=_written(output, value))
    except OutputError as error:
        raise ConfigurationError(
            f"the example for {text!r:.200} is no {output.name!r}: {error}",
            hint="give (text, value) with a value that the type accepts",
        ) from error


def _written(output: Output[Any], value: Any) -> str:
    if output.schema is not None and output.source is output.schema:  # which takes values as they come
        output.validate(output.dump(value))
        return dump_json(in_schema_order(value, output.schema))
    try:
        return output.dump(value)
    except OutputError:
        try:
            text = dump_json(value)
        except (TypeError, ValueError, RecursionError):
            text = ""
        if not text:
            raise
        read, plain = output.validate(text), json.loads(text)
        if output.schema is not None and not compile_schema(output.schema)(plain):
            # As it was given: reading it may have changed it, and would do so a second time.
            return dump_json(in_schema_order(plain, output.schema))
        return output.dump(read)


def check_on_error(on_error: object) -> None:
    """See that it is known.

    Raises:
        ConfigurationError: It is not.
    """
    if on_error not in ("raise", "return"):
        raise ConfigurationError(f"on_error={on_error!r} is not known", hint='use "raise" or "return"')


def check_text(text: object) -> None:
    """See that it is a text.

    Raises:
        ConfigurationError: It is something else.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f"the text is {text!r:.80}, which is not a str", hint="give what is to be read")


def check_apart(rows: Path, out: Path) -> None:
    """See that the output is not the input.

    Raises:
        ConfigurationError: It is, perhaps by another name.
    """
    try:
        same = rows.samefile(out)
    except OSError:  # one of them is not there
        return
    if same and not rows.is_dir():
        raise ConfigurationError(
            f"out={str(out)!r} is the input {str(rows)!r}, which would be overwritten", hint="give out= another name"
        )


def nothing_there(text: str) -> InvalidOutputError:
    """There is no text to take anything out of."""
    return InvalidOutputError(
        f"there is nothing to extract from: the text is {'empty' if not text else 'blank'}",
        hint="leave such texts out",
        raw=text[:100],
    )
