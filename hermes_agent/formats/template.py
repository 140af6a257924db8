"""A user's or a checkpoint's own Jinja chat template, run in a sandbox as transformers runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from hermes_agent.errors import ConfigurationError

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["ApplyTemplate", "jinja_template"]

ApplyTemplate = Callable[[list[dict[str, Any]], list[dict[str, Any]]], str]
"""Renders chat messages and tool objects, both in OpenAI's shape, to prompt text."""


def jinja_template(source: str, **variables: Any) -> ApplyTemplate:
    """A function that renders messages and tools with a Jinja chat template.

    Args:
        source: The template, written for ``tokenizer.apply_chat_template``.
        **variables: What the template may read besides ``messages`` and ``tools``.

    Raises:
        ConfigurationError: The template is not Jinja; or, when applied, it raises.
    """
    template = _compile(source)

    def apply(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
        from jinja2 import TemplateError

        try:
            return template.render(messages=messages, tools=tools or None, **variables)
        except (TemplateError, TypeError, IndexError, KeyError, AttributeError) as error:
            raise ConfigurationError(
                f"the chat template failed: {error!r}",
                hint="fix the template, or leave chat_template=None to use the dialect's own rendering",
                raw=source,
            ) from error

    return apply


@lru_cache(maxsize=32)
def _compile(source: str) -> Template:
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # The settings, globals and the plain "tojson" (no HTML escapes) that published templates are written for.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _tojson
    functions: dict[str, Any] = {"raise_exception": _raise, "strftime_now": _strftime_now}
    environment.globals.update(functions)
    try:
        return environment.from_string(source)
    except TemplateError as error:
        raise ConfigurationError(
            f"the chat template is not valid Jinja: {error}", hint="pass the text of a chat_template.jinja", raw=source
        ) from error


def _tojson(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    from datetime import datetime

    return datetime.now().astimezone().strftime(form)
