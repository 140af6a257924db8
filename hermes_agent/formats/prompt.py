"""From a conversation to the text a model reads.

A prompt is a list of segments: markup that we write, and data that other people wrote. Data must never
become markup. Where tokens are made locally, data is tokenised as plain text; where only a string can be
sent (`render`), tags and special tokens in data are broken up with a zero-width space.

Rendering is prefix stable: the prompt of a turn starts with the prompt of the turn before, for every dialect
and every policy but ``keep="last"``, which forgets old thoughts when a new question arrives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from secrets import token_hex
from typing import Any, assert_never, cast

from hermes_agent.errors import ConfigurationError
from hermes_agent.formats.definitions import tool_lines
from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.dialects import dialect as named_dialect
from hermes_agent.formats.segments import Segment, instructed, neutralise, wire_text
from hermes_agent.formats.template import ApplyTemplate, jinja_template
from hermes_agent.formats.wire import call_json, dump_json
from hermes_agent.json_text import sound
from hermes_agent.messages import AssistantMessage, Message, SystemMessage, ToolCall, ToolMessage, UserMessage
from hermes_agent.output import Output
from hermes_agent.reasoning import Mode, Reasoning
from hermes_agent.tool import Tool

__all__ = ["inline_results", "render", "render_segments", "template_segments"]


def render(
    messages: Iterable[Message],
    *,
    dialect: Dialect | str,
    tools: Iterable[Tool | Callable[..., Any]] = (),
    output: Any = str,
    reasoning: Reasoning | Mode | bool = "off",
    add_generation_prompt: bool = True,
) -> str:
    """The prompt as one string, safe to send over a wire.

    Args:
        messages: The conversation; leading system messages are the instructions.
        dialect: A dialect or its name.
        tools: Tools to show; functions are read as `Tool.of` reads them.
        output: What the final answer must be; a type, a schema, or ``str``.
        reasoning: Whether thinking is on, and which earlier thoughts are shown.
        add_generation_prompt: Open the model's turn at the end.

    Raises:
        ConfigurationError: The dialect cannot show tools, or its template fails.

    Example:
        >>> from hermes_agent.messages import UserMessage
        >>> print(render([UserMessage("Hi")], dialect="chatml"))
        <|im_start|>user
        Hi<|im_end|>
        <|im_start|>assistant
        <BLANKLINE>
    """
    found = named_dialect(dialect)
    segments = render_segments(
        tuple(messages),
        dialect=found,
        tools=tuple(Tool.of(tool) for tool in tools),
        output=Output.of(output),
        reasoning=Reasoning.of(reasoning),
        add_generation_prompt=add_generation_prompt,
    )
    return wire_text(segments, found)


def render_segments(
    messages: Sequence[Message],
    *,
    dialect: Dialect,
    tools: Sequence[Tool] = (),
    output: Output | None = None,
    reasoning: Reasoning = Reasoning(),
    add_generation_prompt: bool = True,
) -> list[Segment]:
    """The prompt as segments; arguments as for `render`, already coerced."""
    if dialect.chat_template is not None:
        apply = jinja_template(
            dialect.chat_template,
            bos_token=dialect.bos,
            add_generation_prompt=add_generation_prompt,
            **template_switches(reasoning),
        )
        return template_segments(
            messages, apply, template=dialect.chat_template, dialect=dialect, tools=tools, output=output,
            reasoning=reasoning,
        )  # fmt: skip
    segments = [Segment(dialect.bos)] if dialect.bos else []
    instructions, first = _instructions(messages)
    for turn in _system_turns(instructions, dialect, tools, output, reasoning.mode):
        segments += [Segment(_open(dialect, "system")), *turn, Segment(dialect.turn_close)]
    segments.extend(_turns(messages, first, dialect, reasoning))
    if add_generation_prompt:
        segments.append(Segment(_open_assistant(dialect, reasoning.mode)))
    return segments


def template_segments(
    messages: Sequence[Message],
    apply: ApplyTemplate,
    *,
    template: str,
    dialect: Dialect,
    tools: Sequence[Tool] = (),
    output: Output | None = None,
    reasoning: Reasoning = Reasoning(),
    special: Iterable[str] = (),
) -> list[Segment]:
    """The prompt as a checkpoint's own chat template writes it, cut where other people's text stands.

    Args:
        messages: The conversation.
        apply: Runs the template.
        template: Its source; a template that never mentions ``tools`` gets them in the system message.
        dialect: Its prompts for what templates have no place for: thinking, the answer's schema.
        tools: Tools to show.
        output: What the final answer must be.
        reasoning: Whether thinking is on, and which earlier thoughts are shown.
        special: Further strings that must not arise from tool definitions, such as a tokenizer's added tokens.
    """
    held = _Held()
    native = "tools" in template
    instructions, first = _instructions(messages)
    turns = _system_turns(
        instructions, dialect, () if native else tools, output, reasoning.mode, has_tools=bool(tools), default=False
    )
    chat: list[dict[str, Any]] = []
    if turns:
        content = "\n\n".join("".join(map(held.put, turn)) for turn in turns)
        chat.append({"role": "system", "content": content})
    chat.extend(_chat_turns(messages, first, dialect, reasoning, held))
    # Templates read tool definitions, keys and types, so these are shown to them as they are, less their tags.
    shown = [json.loads(neutralise(line, dialect, special)) for line in tool_lines(tools)] if native else []
    return held.split(sound(apply(chat, shown)))


def template_switches(reasoning: Reasoning) -> dict[str, Any]:
    """What published Hermes and Qwen templates read to turn thinking on; thoughts are dropped by us, not by them."""
    on = reasoning.mode == "on"
    # Qwen3 thinks unless told not to, and writes an empty thought into the prompt when told.
    return {"thinking": on, "enable_thinking": reasoning.mode != "off", "keep_cots": True}


def _open(dialect: Dialect, role: str) -> str:
    plain = dialect.system_open if role in ("system", "user") and dialect.system_open else dialect.turn_open
    return plain.replace("{role}", role)


def _open_assistant(dialect: Dialect, mode: Mode) -> str:
    return _open(dialect, dialect.assistant_role) + (dialect.no_think if mode == "off" else "")


def _instructions(messages: Sequence[Message]) -> tuple[str, int]:
    """The leading system messages as one text, and where the conversation proper begins."""
    texts: list[str] = []
    for message in messages:
        if not isinstance(message, SystemMessage):
            break
        texts.append(message.text)
    return "\n\n".join(texts), len(texts)


def _system_turns(
    instructions: str,
    dialect: Dialect,
    tools: Sequence[Tool],
    output: Output[Any] | None,
    mode: Mode,
    *,
    has_tools: bool | None = None,
    default: bool = True,
) -> list[list[Segment]]:
    """The system turns, in order; usually one. Tool definitions and schemas in them are data."""
    has_tools = bool(tools) if has_tools is None else has_tools
    shown = _tools_prompt(dialect, tools) if tools else []
    schema: list[Segment] = []
    if output is not None and output.schema is not None:
        prompt = dialect.json_after_tools_prompt if has_tools else dialect.json_prompt
        schema = _filled(prompt, "{schema}", dump_json(output.schema))
    thinking = dialect.thinking_prompt if mode == "on" else ""
    # As in the published template: the deep-thinking text takes the place of the default, not of the user's own.
    told = instructions or (dialect.default_system if default and not thinking else "")
    own = [[Segment(text)] if text else [] for text in (thinking, instructed(told, dialect))]
    if dialect.instructions == "own" and shown:
        turns = [_paragraphs(shown, schema), _paragraphs(*own)]
    elif dialect.instructions == "after":
        turns = [_paragraphs(shown, schema, *own)]
    else:
        turns = [_paragraphs(*own, shown, schema)]
    return [turn for turn in turns if turn]


def _paragraphs(*paragraphs: list[Segment]) -> list[Segment]:
    joined: list[Segment] = []
    for paragraph in paragraphs:
        if paragraph:
            joined += [Segment("\n\n"), *paragraph] if joined else paragraph
    return joined


def _filled(prompt: str, place: str, data: str) -> list[Segment]:
    """A prompt of ours with data in its place."""
    before, _, after = prompt.partition(place)
    return [Segment(before), Segment(data, trusted=False), Segment(after)]


def _tools_prompt(dialect: Dialect, tools: Sequence[Tool]) -> list[Segment]:
    if not dialect.tools_prompt:
        raise ConfigurationError(
            f"dialect {dialect.name!r} has no way to show tools", hint='choose another, such as dialect="chatml"'
        )
    return _filled(dialect.tools_prompt, "{tools}", "\n".join(tool_lines(tools)))


def _turns(messages: Sequence[Message], first: int, dialect: Dialect, reasoning: Reasoning) -> Iterator[Segment]:
    close, thoughts_from = Segment(dialect.turn_close), _thoughts_from(messages, dialect, reasoning)
    for index in range(first, len(messages)):
        match messages[index]:
            case SystemMessage(text):
                yield Segment(_open(dialect, "system") + instructed(text, dialect) + dialect.turn_close)
            case UserMessage(text):
                yield Segment(_open(dialect, "user"))
                yield Segment(text, trusted=False)
                yield close
            case AssistantMessage() as message:
                yield Segment(_open_assistant(dialect, reasoning.mode))
                yield from _assistant(message, dialect, reasoning.mode, keep=index >= thoughts_from)
                yield close
            case ToolMessage() as message:
                opens = index == first or not isinstance(messages[index - 1], ToolMessage)
                closes = index + 1 == len(messages) or not isinstance(messages[index + 1], ToolMessage)
                role = _open(dialect, dialect.tool_role) if opens else "\n"
                yield Segment(role + "<tool_response>\n")
                yield Segment(_result(message, dialect), trusted=False)
                yield Segment("\n</tool_response>" + (dialect.turn_close if closes else ""))
            case _ as never:
                assert_never(never)


def _thoughts_from(messages: Sequence[Message], dialect: Dialect, reasoning: Reasoning) -> int:
    """The index from which thoughts are shown again."""
    keep = reasoning.keep or dialect.keep_reasoning
    if keep == "all":
        return 0
    if keep == "none":
        return len(messages)
    return max((i for i, message in enumerate(messages) if isinstance(message, UserMessage)), default=0)


def _thought(message: AssistantMessage, dialect: Dialect, mode: Mode, *, keep: bool) -> str | None:
    """What stands in for the thought: ``None`` for nothing, ``""`` for the dropped-thought marker."""
    if message.reasoning is not None and keep:
        return message.reasoning
    thinks = mode == "on" or (mode == "auto" and message.reasoning is not None)
    return "" if thinks and dialect.dropped_think else None


def _assistant(message: AssistantMessage, dialect: Dialect, mode: Mode, *, keep: bool) -> Iterator[Segment]:
    if message.raw:
        yield Segment(message.raw, trusted=False)
        return
    thought = _thought(message, dialect, mode, keep=keep)
    if thought:
        yield Segment(dialect.think_open + "\n")
        yield Segment(thought, trusted=False)
        yield Segment("\n" + dialect.think_close + dialect.think_separator)
    elif thought is not None:
        yield Segment(dialect.dropped_think + dialect.think_separator)
    if message.text:
        yield Segment(message.text, trusted=False)
    for index, call in enumerate(message.tool_calls):
        yield from _call(call, lead="\n" if message.text or index else "")


def _call(call: ToolCall, *, lead: str) -> Iterator[Segment]:
    yield Segment(lead + "<tool_call>\n")
    yield Segment(call_json(call.name, call.arguments), trusted=False)
    yield Segment("\n</tool_call>")


def _result(message: ToolMessage, dialect: Dialect) -> str:
    if not (dialect.result_envelope and message.name):
        return message.content
    text = message.content
    if text[:1] in ("{", "["):
        try:
            text = dump_json(json.loads(text))
        except (ValueError, RecursionError):
            text = dump_json(text)
    else:
        text = dump_json(text)
    return f'{{"name": {dump_json(message.name)}, "content": {text}}}'


def inline_results(messages: Sequence[ToolMessage], dialect: Dialect) -> str:
    """Tool results as they stand inside a thought, behind their calls; nothing in them reads as markup."""
    told = (neutralise(_result(message, dialect), dialect) for message in messages)
    return "".join(f"<tool_response>\n{text}\n</tool_response>\n" for text in told)


def _chat_turns(
    messages: Sequence[Message],
    first: int,
    dialect: Dialect,
    reasoning: Reasoning,
    held: _Held,
) -> Iterator[dict[str, Any]]:
    thoughts_from = _thoughts_from(messages, dialect, reasoning)
    for index in range(first, len(messages)):
        match messages[index]:
            case SystemMessage(text):
                yield {"role": "system", "content": held.put(Segment(instructed(text, dialect)))}
            case UserMessage(text):
                yield {"role": "user", "content": held.data(text)}
            case AssistantMessage() as message:
                yield _chat_assistant(message, dialect, reasoning.mode, held, keep=index >= thoughts_from)
            case ToolMessage() as message:
                # The name is passed too: some templates wrap results in an envelope that needs it.
                yield {"role": "tool", "name": held.inner_json(message.name), "content": held.data(message.content)}
            case _ as never:
                assert_never(never)


def _chat_assistant(
    message: AssistantMessage, dialect: Dialect, mode: Mode, held: _Held, *, keep: bool
) -> dict[str, Any]:
    if message.raw:
        return {"role": "assistant", "content": held.data(message.raw)}
    thought = _thought(message, dialect, mode, keep=keep)
    content = held.data(message.text)
    if thought:
        block = f"{dialect.think_open}\n{held.data(thought)}\n{dialect.think_close}"
        content = block + dialect.think_separator + content
    elif thought is not None:
        content = dialect.dropped_think + dialect.think_separator + content
    turn: dict[str, Any] = {"role": "assistant", "content": content}
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "type": "function",
                "function": {"name": held.inner_json(call.name), "arguments": held.json(call.arguments)},
            }
            for call in message.tool_calls
        ]
    return turn


class _Held:
    """Texts that a template shall place, not read: it gets a marker for each, which no text can guess."""

    def __init__(self) -> None:
        self._nonce = token_hex(8)
        self._segments: list[Segment] = []

    def put(self, segment: Segment) -> str:
        """The marker of a segment."""
        self._segments.append(segment)
        return f"held{self._nonce}n{len(self._segments) - 1}n"

    def data(self, text: str) -> str:
        """The marker of other people's text; nothing for nothing, which templates do ask about."""
        return self.put(Segment(text, trusted=False)) if text else ""

    def inner_json(self, text: str) -> str:
        """The marker of a text that the template writes between the quotes of a JSON string."""
        return self.data(dump_json(text)[1:-1])

    def json(self, value: Any) -> Any:
        """A JSON value with a marker for every string in it, keys too."""
        if isinstance(value, str):
            return self.inner_json(value)
        if isinstance(value, dict):
            members = cast("dict[str, Any]", value)
            return {self.inner_json(key): self.json(member) for key, member in members.items()}
        if isinstance(value, list | tuple):
            return [self.json(item) for item in cast("Sequence[Any]", value)]
        return value

    def split(self, text: str) -> list[Segment]:
        """What a template wrote, cut at the markers."""
        pieces = re.split(f"held{self._nonce}n(\\d+)n", text)
        return [
            self._segments[int(piece)] if index % 2 else Segment(piece) for index, piece in enumerate(pieces) if piece
        ]
