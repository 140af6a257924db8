"""The same prompt as chat messages, for servers that write the turn markup themselves and nothing else.

Tools, thoughts, calls and results stand in the text of the messages as the Hermes format writes them, so the
server's own support for tools is neither needed nor in the way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from secrets import token_hex
from typing import Any

from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.prompt import render_segments
from hermes_agent.formats.segments import wire_text
from hermes_agent.messages import Message
from hermes_agent.output import Output
from hermes_agent.reasoning import Reasoning
from hermes_agent.tool import Tool

__all__ = ["chat_messages"]

_MARK = f"turn{token_hex(8)}"
"""Where turns begin; no text can guess it, and none ever holds it."""


def chat_messages(
    messages: Sequence[Message],
    *,
    dialect: Dialect,
    tools: Sequence[Tool] = (),
    output: Output[Any] | None = None,
    reasoning: Reasoning = Reasoning(),
) -> list[dict[str, str]]:
    """The conversation as ``{"role": …, "content": …}``, roles ``system``, ``user`` and ``assistant`` alone.

    No content is null, which some templates fail on, and tool results stand in user messages, since a template may
    know no ``tool`` role. Arguments are those of `hermes_agent.formats.prompt.render_segments`.
    """
    plain = replace(
        dialect,
        bos="",
        turn_open=f"{_MARK}:{{role}}:{_MARK}",
        system_open="",
        turn_close="",
        no_think="",
        tool_role="user",
        assistant_role="assistant",
        chat_template=None,
    )
    segments = render_segments(
        messages, dialect=plain, tools=tools, output=output, reasoning=reasoning, add_generation_prompt=False
    )
    _, *pieces = re.split(rf"{_MARK}:(\w+):{_MARK}", wire_text(segments, dialect))
    return [{"role": role, "content": said} for role, said in zip(pieces[::2], pieces[1::2], strict=True)]
