"""A trace as one HTML page: no script, no server, nothing loaded, everything escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import TYPE_CHECKING, Any

from hermes_agent.messages import AssistantMessage, Message, SystemMessage, ToolMessage, UserMessage
from hermes_agent.trace.markup import Child, Html, document, element, fragment
from hermes_agent.trace.timeline import Axis, Bar, axis, bars
from hermes_agent.trace.words import (
    CALL_STATES,
    GUARANTEES,
    OUTCOMES,
    count,
    duration,
    notes,
    spelled,
    thinking_note,
    tokens,
    written,
)
from hermes_agent.turn import Fault, TextPart
from hermes_agent.visible import visible

if TYPE_CHECKING:
    from hermes_agent.trace.run import Trace
    from hermes_agent.trace.values import TracedCall, TracedShortening, TracedStep

__all__ = ["page"]

_LONG_CHARS, _LONG_LINES = 3000, 40
"""What is larger is folded, with its beginning and its size in sight."""
_LONG_NAME = 300

_Path = tuple[int, ...]


def page(trace: Trace) -> str:
    """The page of a run; see `Trace.to_html`."""
    style = resources.files("hermes_agent.trace").joinpath("page.css").read_text(encoding="utf-8")
    body = element("main", _head(trace), _outcome(trace), _timeline(trace), *_steps(trace, ()))
    return document(f"Run {_short(trace.run_id)}", style.replace("\r\n", "\n"), body)


def _head(trace: Trace) -> Html:
    usage = trace.usage
    guarantee = f"{trace.guarantee}: {GUARANTEES.get(trace.guarantee, 'unknown')}"
    if trace.promised != trace.guarantee:
        guarantee += f" (promised: {_short(trace.promised)})"
    inside = ", agents inside of tools included" if trace.nested else ""
    facts: dict[str, Child] = {
        "Agent": _name(trace.agent) if trace.agent else None,
        "Model": _name(trace.model) if trace.model else None,
        "Began": _moment(trace.began) if trace.began else None,
        "Took": duration(trace.seconds),
        "Work": f"{count(usage.steps, 'step')}, {count(usage.tool_calls, 'tool call')}{inside}",
        "Tokens": tokens(usage),
        "Guarantee": guarantee,
    }
    rows = [
        element("div", element("dt", name), element("dd", fact)) for name, fact in facts.items() if fact is not None
    ]
    title = element("h1", "Run ", _name(trace.run_id))
    badge = element("p", OUTCOMES[trace.outcome], class_=f"outcome {trace.outcome}")
    return element("header", element("div", title, badge, class_="title"), element("dl", *rows, class_="facts"))


def _outcome(trace: Trace) -> Html:
    """What was asked, and what came of it."""
    history = None
    if trace.history:
        history = _folded(count(len(trace.history), "earlier message"), "", _messages(trace.history), "history")
    return element(
        "section",
        history,
        _labelled("Prompt", _value(trace.prompt), "prompt"),
        _labelled("Answer", _value(trace.answer), "answer") if trace.answer is not None else None,
        _labelled("Error", _value(trace.error), "error") if trace.error else None,
        class_="asked",
    )


def _moment(at: float) -> Html:
    when = datetime.fromtimestamp(at, UTC)
    return element("time", when.strftime("%Y-%m-%d %H:%M:%S UTC"), attributes={"datetime": when.isoformat()})


# The time line


def _timeline(trace: Trace) -> Html | None:
    drawn = bars(trace)
    if not drawn:
        return None
    scale = axis(drawn)
    folds = [
        element("li", f"{duration(seconds)} in which nothing happened are left out at ", element("span", f"{at:.0%}"))
        for at, seconds in scale.folds
    ]
    return element(
        "section",
        element("h2", "Time line"),
        element("ol", *(_bar(bar, scale, trace.began) for bar in drawn), class_="bars"),
        element("ul", *folds, class_="folds") if folds else None,
        class_="timeline",
    )


def _bar(bar: Bar, scale: Axis, began: float) -> Html:
    left, right = scale.place(bar.began), scale.place(bar.ended)
    width = max(right - left, 0.004)  # or it would not be seen
    left = min(left, 1 - width)
    box = {"x": f"{left:.3%}", "width": f"{width:.3%}", "y": "3", "height": "10", "rx": "2", "class": bar.kind}
    gaps = (
        element("line", attributes={"x1": f"{at:.3%}", "x2": f"{at:.3%}", "y1": "0", "y2": "16", "class": "fold"})
        for at, _ in scale.folds
    )
    took = duration(bar.ended - bar.began) if bar.kind != "open" else "no end"
    return element(
        "li",
        element(
            "a", _short(bar.label), class_=f"depth{min(bar.depth, 6)}", attributes={"href": f"#{_anchor(bar.path)}"}
        ),
        element("svg", *gaps, element("rect", attributes=box), attributes={"aria-hidden": "true"}),
        element("span", f"{duration(bar.began - began)}", class_="at"),
        element("span", took, class_="took"),
    )


def _anchor(path: _Path) -> str:
    return "at-" + "-".join(map(str, path))


# Steps


def _steps(trace: Trace, path: _Path) -> Iterable[Html]:
    for index, step in enumerate(trace.steps):
        yield from (_shortened(item) for item in trace.shortenings if item.before_step == index)
        yield _step(trace, index, step, (*path, index))
    yield from (_shortened(item) for item in trace.shortenings if item.before_step >= len(trace.steps))


def _step(trace: Trace, index: int, step: TracedStep, path: _Path) -> Html:
    facts = [
        f"at {duration(step.began - trace.began)}",
        "broken off" if step.turn is None else f"model {duration(step.model_seconds)}",
        f"{tokens(step.usage)} tokens",
        f"guarantee {_short(step.guarantee)}",
        f"agent {_short(step.agent)}" if step.agent and step.agent != trace.agent else "",
        f"model {_short(step.model)}" if step.model and step.model != trace.model else "",
    ]
    weak = step.turn is None or step.finish == "length"
    return element(
        "section",
        element("h2", f"Step {step.number}"),
        element("p", *(element("span", fact) for fact in facts if fact), class_="facts"),
        element("p", "The turn was cut off at a token limit.", class_="warning") if step.finish == "length" else None,
        element("p", "No end of this turn is recorded.", class_="warning") if step.turn is None else None,
        *_turn(step, path),
        _labelled("Not accepted; the model was told", _value(step.rejected), "rejected") if step.rejected else None,
        _raw(step),
        _grammar(trace, index),
        class_="step weak" if weak else "step",
        attributes={"id": _anchor(path)},
    )


def _turn(step: TracedStep, path: _Path) -> Iterable[Html]:
    if step.thinking is not None:
        note = thinking_note(step)
        about = f"{count(len(step.thinking), 'character')}" + (f", {note}" if note else "")
        yield _folded("Thinking", about, _text(step.thinking), "thinking")
    elif step.turn is None and step.raw:
        yield _labelled("Written so far", _value(step.raw), "text")
    places = {id(call): place for place, call in enumerate(step.calls)}
    yield from (_call(call, (*path, places[id(call)])) for call in step.calls if call.inline)
    for part, call in written(step):
        match part:
            case TextPart(text):
                yield element("div", _value(text), class_="text")
            case Fault():
                yield _fault(part)
            case _ if call is not None:
                yield _call(call, (*path, places[id(call)]))
            case _:
                pass


def _fault(fault: Fault) -> Html:
    label = fault.kind.replace("_", " ").capitalize()
    raw = None if fault.kind == "unknown_tool" else _value(fault.raw)  # its call stands beside it
    return _labelled(label, fragment([_value(fault.detail), raw]), "fault")


def _raw(step: TracedStep) -> Html | None:
    if step.turn is None or not step.raw:
        return None
    return _folded("Turn as written", count(len(step.raw), "character"), _text(step.raw), "raw")


def _grammar(trace: Trace, index: int) -> Html | None:
    step = trace.steps[index]
    if not step.grammar:
        return None
    if not step.grammar_is_new:
        return element("p", "Same grammar as the step before", class_="same")
    lines = step.grammar.count("\n") + 1
    return _folded("Grammar", f"{count(lines, 'line')} of Lark", _text(step.grammar), "grammar")


def _shortened(item: TracedShortening) -> Html:
    spent = f"{tokens(item.usage)} tokens" if item.usage.input_tokens or item.usage.output_tokens else ""
    label = f"From here on the model was shown {count(len(item.shown), 'message')} of the conversation so far"
    return element("section", _folded(label, spent, _messages(item.shown), "history"), class_="shortened")


# Calls


def _call(call: TracedCall, path: _Path) -> Html:
    head = element(
        "h3",
        _name(call.name),
        element("span", CALL_STATES[call.state], class_="state"),
        element("span", duration(call.seconds), class_="took") if call.seconds else None,
        *(element("span", _short(note), class_="note") for note in notes(call)),
    )
    result = None
    if call.result is not None:
        result = _labelled("Result" if call.state in ("ran", "supplied") else "The model was told", _value(call.result))
    return element(
        "article",
        head,
        _arguments(call.arguments),
        _labelled("Error", _value(call.error), "error") if call.error else None,
        result,
        _inner(call.run, path) if call.run is not None else None,
        class_=f"call {call.state}",
        attributes={"id": _anchor(path)},
    )


def _arguments(arguments: Mapping[str, Any] | None) -> Html:
    if arguments is None:
        return element("p", "The arguments are not recorded.", class_="none")
    if not arguments:
        return element("p", "No arguments", class_="none")
    rows = (
        element("tr", element("th", _name(name), attributes={"scope": "row"}), element("td", _argument(value)))
        for name, value in arguments.items()
    )
    return element("table", element("tbody", *rows))


def _argument(value: Any) -> Html:
    if isinstance(value, str) and ("\n" in value or len(value) > 200):
        return _value(value)  # several lines are read as such
    on_a_line = spelled(value)
    if len(on_a_line) > 100 and isinstance(value, dict | list):
        try:
            return _value(json.dumps(value, ensure_ascii=False, indent=2))
        except (TypeError, ValueError, RecursionError):
            pass  # it was spelled by Python, and is shown so
    return _value(on_a_line)


def _inner(trace: Trace, path: _Path) -> Html:
    usage = trace.usage
    about = f"{OUTCOMES[trace.outcome]}, {count(usage.steps, 'step')}, {duration(trace.seconds)}"
    content = fragment(
        [
            element(
                "p",
                element("span", f"run {_short(trace.run_id)}"),
                element("span", f"{tokens(usage)} tokens"),
                element("span", f"model {_short(trace.model)}") if trace.model else None,
                element("span", f"guarantee {_short(trace.guarantee)}"),
                class_="facts",
            ),
            _outcome(trace),
            *_steps(trace, path),
        ]
    )
    name = f"Agent {_short(trace.agent)}" if trace.agent else "Agent"
    return _folded(name, about, content, "inner", is_open=trace.outcome != "answered")


# Values


def _labelled(label: str, content: Html, kind: str = "") -> Html:
    return element("div", element("p", label, class_="label"), content, class_=f"labelled {kind}".rstrip())


def _folded(label: str, about: str, content: Html, kind: str, *, is_open: bool = False) -> Html:
    summary = element("summary", element("strong", label), element("span", about) if about else None)
    return element("details", summary, content, class_=kind, attributes={"open": ""} if is_open else {})


def _value(value: str) -> Html:
    """A text, folded where it is large."""
    lines = value.count("\n") + 1
    if len(value) <= _LONG_CHARS and lines <= _LONG_LINES:
        return _text(value)
    return _folding(value)


def _folding(value: str) -> Html:
    lines = value.count("\n") + 1
    size = count(len(value), "character") + (f", {count(lines, 'line')}" if lines > 1 else "")
    beginning = " ".join(visible(value[:160]).split())
    return _folded(beginning + " …", size, _text(value), "large")


def _name(value: str) -> Html:
    """A name; one as long as a model may make it is folded."""
    return element("code", value) if len(value) <= _LONG_NAME else _folding(value)


def _short(value: str) -> str:
    """A name where it stands whole elsewhere."""
    return value if len(value) <= _LONG_NAME else f"{value[:80]} … ({len(value):,} characters)"


def _text(value: str) -> Html:
    return element("pre", value) if value else element("p", "empty", class_="none")


def _messages(messages: Iterable[Message]) -> Html:
    return element("div", *(_message(message) for message in messages), class_="messages")


def _message(message: Message) -> Html:
    match message:
        case SystemMessage(text) | UserMessage(text):
            return _labelled(message.role.capitalize(), _value(text))
        case ToolMessage(content, name):
            return _labelled(f"Tool {_short(name)}".rstrip(), _value(content), "error" if message.is_error else "")
        case AssistantMessage():
            calls = (element("div", _name(call.name), _value(spelled(call.arguments))) for call in message.tool_calls)
            return _labelled("Assistant", fragment([_value(message.text) if message.text else None, *calls]))
