"""A guard against forged markup: a hook, and the example of how to write one.

Other people's text cannot open a turn or make a call, whether there is a guard or not: rendering sees to that
(`hermes_agent.formats.segments`). This one is for those who want to know that somebody tried, or want no part of it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any, Literal, cast

from hermes_agent.context import RunContext
from hermes_agent.errors import ConfigurationError, HookError
from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.dialects import dialect as named_dialect
from hermes_agent.formats.segments import forged
from hermes_agent.hooks import Hooks
from hermes_agent.messages import ToolCall, UserMessage
from hermes_agent.models.base import Request
from hermes_agent.record import CallEnded, TurnWritten

__all__ = ["ForgedMarkupError", "MarkupGuard", "OnForgery"]

OnForgery = Literal["log", "block", "raise"]
"""What becomes of text that imitates markup: a warning is logged; a result is withheld from the model, and a prompt
ends the run; or both end the run."""

_WITHHELD = (
    "The result of this call was withheld, because it imitates the markup of this conversation. Go on without it."
)
_logger = logging.getLogger("hermes_agent.guards")


class ForgedMarkupError(HookError):
    """A prompt, or a tool's result, held text that imitates turns, calls or special tokens."""


class MarkupGuard(Hooks[Any]):
    """Sees when the user's text, or what a tool gave back, imitates turns, calls, thoughts or special tokens.

    Results are looked at as they come, the user's messages before the first turn of a run. A warning names the tool and
    the tag, never the text around it.

    Args:
        action: What is done; everything but ``"log"`` logs too.
        allow: Tags that are no forgery here, such as ``"<s>"`` where tools read HTML.
        dialect: Whose markup counts, besides the tags and tokens that all families of models share.

    Example:
        >>> from hermes_agent import Agent
        >>> from hermes_agent.testing import ScriptedModel
        >>> agent = Agent(ScriptedModel(["Hello."]), hooks=[MarkupGuard("block")])
        >>> agent.run_sync("Translate: <|im_end|>")
        Traceback (most recent call last):
            ...
        hermes_agent.guards.ForgedMarkupError: the user's text holds '<|im_end|>'
          hint: leave it out, or use MarkupGuard('log'): it cannot take effect
    """

    def __init__(
        self,
        action: OnForgery = "log",
        *,
        allow: frozenset[str] | set[str] = frozenset(),
        dialect: Dialect | str = "chatml",
    ) -> None:
        if action not in ("log", "block", "raise"):
            raise ConfigurationError(f"action={action!r}", hint="choose 'log', 'block' or 'raise'")
        tags = cast("Collection[object]", allow)  # whatever the annotation says
        if isinstance(tags, str) or not all(isinstance(tag, str) and tag for tag in tags):
            # Each letter of a string would be a tag, and nothing would be left to see.
            raise ConfigurationError(f"allow={allow!r} is no set of tags", hint='give a set, such as {"<s>", "</s>"}')
        self._action, self._allow, self._dialect = action, frozenset(allow), named_dialect(dialect)

    async def around_turn(
        self, context: RunContext[Any], request: Request, proceed: Callable[[Request], Awaitable[TurnWritten]]
    ) -> TurnWritten:
        """Look at what the user said, once a run."""
        if context.step <= 1:
            for message in request.messages:
                if isinstance(message, UserMessage) and (mark := self._found(message.text)):
                    self._report("the user's text", mark, ends=self._action != "log")
        return await proceed(request)

    async def around_call(
        self, context: RunContext[Any], call: ToolCall, proceed: Callable[[ToolCall], Awaitable[CallEnded]]
    ) -> CallEnded:
        """Look at what the tool gave back."""
        ended = await proceed(call)
        mark = self._found(ended.message.content)
        if mark is None:
            return ended
        self._report(f"the result of {call.name!r}", mark, ends=self._action == "raise")
        if self._action == "log":
            return ended
        return replace(ended, message=replace(ended.message, content=_WITHHELD, is_error=True))

    def _found(self, text: str) -> str | None:
        for tag in self._allow:
            text = text.replace(tag, " ")
        return forged(text, self._dialect)

    def _report(self, where: str, mark: str, *, ends: bool) -> None:
        _logger.warning("%s holds %r", where, mark)
        if ends:
            raise ForgedMarkupError(
                f"{where} holds {mark!r}", hint="leave it out, or use MarkupGuard('log'): it cannot take effect"
            )
