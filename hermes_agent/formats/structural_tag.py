"""A turn's grammar as a structural tag of xgrammar, which vLLM and SGLang take.

Calls and typed answers are grammars of their own inside of it, since xgrammar's reading of a JSON schema lets values
pass that the schema forbids. Free text and thoughts are its own ``any_text``: as a grammar they would say more, but
take seconds to compile for a large vocabulary. What ``any_text`` may not hold counts as it is written, so literals are
given in the spellings that models use, and other letter cases are left to the parser. It goes by bytes: where a
vocabulary has tokens for single bytes, text that is no UTF-8 is allowed, which servers write as U+FFFD.

The format is xgrammar's as of 0.2: ``any_text`` with ``excludes``, ``tag``, ``sequence``, ``or``, ``optional``,
``repeat``, ``grammar``, ``regex``, ``const_string``, ``json_schema``, ``triggered_tags``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from hermes_agent.errors import GrammarError
from hermes_agent.formats import gbnf
from hermes_agent.formats.lark import Parts, Tags
from hermes_agent.formats.tags import FORBIDDEN_IN_TEXT, FORBIDDEN_IN_THOUGHTS, TOOL_CALL_CLOSE, TOOL_CALL_OPEN
from hermes_agent.formats.wire import dump_json

__all__ = ["Style", "compose", "like_qwen_3", "why_not_qwen_3"]

Format: TypeAlias = "dict[str, Any]"
Style = Literal["own", "qwen_3"]
"""The whole of the turn as `hermes_agent` defines it, or what xgrammar itself makes for Qwen 3 and Hermes."""

_BLANK = "that an answer in words is not blank is checked only afterwards"
_CASES = "markup in unusual letter cases, such as '<tOOL_call>', is found only afterwards"


def compose(turn: Parts, tags: Tags, *, thought_tokens: int | None = None) -> tuple[Format, tuple[str, ...]]:
    """The structural tag of a turn, and what it does not say.

    Args:
        turn: What the turn is composed of.
        tags: Names the thinking tags and the stops; tags are written as text.
        thought_tokens: Most tokens of a thought; its closing tag is then forced.
    """
    composed = _Turn(turn, tags, thought_tokens)
    return {"type": "structural_tag", "format": composed.whole()}, tuple(composed.warnings)


class _Turn:
    def __init__(self, turn: Parts, tags: Tags, thought_tokens: int | None) -> None:
        self._turn = turn
        self._tags = tags
        self._open, self._close = tags.thinking
        self._thought_tokens = thought_tokens
        self.warnings: dict[str, None] = {}

    def whole(self) -> Format:
        turn = self._turn
        rest = self._rest()
        if not turn.thinks:
            return rest
        begin = "" if turn.place == "in_thought" else self._open
        think: Format = {"type": "tag", "begin": begin, "content": self._thought(), "end": self._close}
        if turn.place == "start" and turn.reasoning == "auto":
            think = {"type": "optional", "content": think}
        whole = _sequence(think, rest)
        if not turn.inline:
            return whole
        opened = [{"type": "const_string", "value": begin}] if begin else []
        return _either([whole, _sequence(*opened, self._thought(), _either(self._call_tags("\n")))])

    def _rest(self) -> Format:
        """What stands behind the thinking."""
        turn = self._turn
        calls = self._calls() if turn.calls else None
        if turn.final and turn.answer is None:
            self.warnings[_BLANK] = self.warnings[_CASES] = None
            text = _any_text(_spellings((*FORBIDDEN_IN_TEXT, *self._tags.thinking)), self._tags.stops)
            return text if calls is None else _sequence(text, {"type": "optional", "content": calls})
        options = [] if calls is None else [calls]
        if turn.answer is not None:
            answer, warnings = gbnf.answer(turn, self._tags)
            self.warnings.update(dict.fromkeys(warnings))
            options.insert(0, {"type": "grammar", "grammar": answer})
        rest = _either(options)
        return _sequence({"type": "regex", "pattern": r"\n{0,4}"}, rest) if turn.follows_thought else rest

    def _thought(self) -> Format:
        turn = self._turn
        self.warnings[_CASES] = None
        forbidden = (self._close, *(FORBIDDEN_IN_THOUGHTS if turn.inline else ()))
        text = _any_text(_spellings(forbidden), ("<tool_response", *self._tags.stops))
        if turn.thought is not None:
            text["max_chars"] = turn.thought
        if self._thought_tokens is not None:
            text["max_tokens"] = self._thought_tokens
        return text

    def _calls(self) -> Format:
        most = self._turn.most_calls
        one = _either(self._call_tags())
        if most == 1:
            return one
        more = _sequence({"type": "const_string", "value": "\n"}, one)
        return _sequence(one, {"type": "repeat", "min": 0, "max": -1 if most is None else most - 1, "content": more})

    def _call_tags(self, before: str = "") -> list[Format]:
        tags: list[Format] = []
        for name, arguments in self._turn.calls:
            grammar, warnings = gbnf.value(arguments, arguments=True)
            self.warnings.update(dict.fromkeys(warnings))
            content = {"type": "grammar", "grammar": grammar}
            tags.append({"type": "tag", "begin": before + _begin(name), "content": content, "end": _END})
        return tags


_END = f"}}\n{TOOL_CALL_CLOSE}"


def _begin(name: str) -> str:
    return f'{TOOL_CALL_OPEN}\n{{"name": {dump_json(name)}, "arguments": '


def _sequence(*elements: Format) -> Format:
    return {"type": "sequence", "elements": [*elements]}


def _either(options: list[Format]) -> Format:
    return options[0] if len(options) == 1 else {"type": "or", "elements": options}


def _any_text(*excludes: Iterable[str]) -> Format:
    return {"type": "any_text", "excludes": [*dict.fromkeys(text for texts in excludes for text in texts)]}


def _spellings(literals: Iterable[str]) -> Iterable[str]:
    """Each literal as it is, in capitals, and with capital initials."""
    for literal in literals:
        yield from (literal, literal.upper(), literal.title(), literal[:2] + literal[2:].capitalize())
        yield literal[:1] + literal[1:].capitalize()


# The form of xgrammar's own for Qwen 3.


def why_not_qwen_3(turn: Parts) -> str:
    """Why a turn is not of xgrammar's form for Qwen 3, as a sentence; empty if it is."""
    if turn.final and turn.answer is not None:
        return "the qwen_3 structural tag knows no typed answers"
    if turn.inline:
        return "the qwen_3 structural tag knows no calls inside of thoughts"
    if turn.most_calls not in (None, 1):
        return "the qwen_3 structural tag knows one call or any number of them"
    return ""


def like_qwen_3(turn: Parts, schemas: dict[str, dict[str, Any]], *, named: bool) -> Format:
    """What ``xgrammar.get_model_structural_tag("qwen_3", ...)`` makes for a turn.

    It is wider than a turn: text may follow calls, JSON may hold any white space, and schemas mean what xgrammar
    takes them for. A required thinking block is expected to be open already, as in `TurnGrammar.in_thought`; two
    newlines must follow it.

    Args:
        turn: What the turn is composed of.
        schemas: The parameters of each tool by its name, as declared.
        named: Whether one tool was chosen by name, which means exactly one call.

    Raises:
        GrammarError: The turn is not of this form.
    """
    if why := why_not_qwen_3(turn):
        raise GrammarError(why, hint='use style="own"')
    excludes = ["<think>", "</think>"]
    tags: list[Format] = [
        {"type": "tag", "begin": _begin(name), "content": {"type": "json_schema", "json_schema": schema}, "end": _END}
        for name, schema in schemas.items()
    ]
    rest: Format = {"type": "any_text", "excludes": excludes}
    if named:
        rest = tags[0]
    elif tags:
        rest = {"type": "triggered_tags", "triggers": [TOOL_CALL_OPEN], "tags": tags, "excludes": excludes}
        rest |= {"at_least_one": not turn.final, "stop_after_first": turn.most_calls == 1}
    if turn.thinks:
        begin = "" if turn.place == "in_thought" else "<think>"
        text: Format = {"type": "any_text", "excludes": excludes}
        think = {"type": "tag", "begin": begin, "content": text, "end": "</think>"}
        prefix = _sequence(think, {"type": "const_string", "value": "\n\n"})
        if turn.place == "start" and turn.reasoning == "auto":
            prefix = {"type": "optional", "content": prefix}
        rest = _sequence(prefix, rest)
    return {"type": "structural_tag", "format": rest}
