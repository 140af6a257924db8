"""Records of runs, written by hand, that tests of traces read."""

from __future__ import annotations

from collections.abc import Sequence

from hermes_agent.limits import Usage
from hermes_agent.messages import AssistantMessage, ToolCall, ToolMessage, UserMessage
from hermes_agent.record import (
    AnswerRejected,
    CallBegan,
    CallEnded,
    CallSettled,
    HistoryShortened,
    PartWritten,
    PendingCall,
    Record,
    RunBegan,
    RunEnded,
    RunWaited,
    TurnBegan,
    TurnWritten,
)
from hermes_agent.turn import CallPart, Fault, TextPart, Turn

START = 1_790_000_000.0
GRAMMAR = 'start: think? (calls | answer)\ncalls: call ("\\n" call)*\n'


def call(name: str, call_id: str, /, **arguments: object) -> ToolCall:
    return ToolCall(name, arguments, call_id)


def turn(*parts: str | ToolCall | Fault, thought: str | None = None) -> Turn:
    """A turn of text, calls and faults; its raw text only says that it is there."""
    held = tuple(
        TextPart(part, (0, len(part)))
        if isinstance(part, str)
        else CallPart(part, (0, 1))
        if isinstance(part, ToolCall)
        else part
        for part in parts
    )
    raw = "" if thought is None else f"<think>\n{thought}\n</think>\n"
    raw += "\n".join(part if isinstance(part, str) else f"({part.name})" for part in parts)
    return Turn(held, thought, raw=raw, thinking="none" if thought is None else "whole")


def ran(made: ToolCall, text: str, at: float, seconds: float, *, error: str = "", **more: object) -> CallEnded:
    message = ToolMessage(text, made.name, made.id, is_error=bool(error))
    return CallEnded(made.id, message, seconds, ran=True, error=error, at=START + at, **more)  # type: ignore[arg-type]  # fields by name


def refused(made: ToolCall, text: str, at: float) -> CallEnded:
    return CallEnded(made.id, ToolMessage(text, made.name, made.id, is_error=True), invalid=True, at=START + at)


def whole_run() -> dict[str, Sequence[Record]]:
    """A run with everything in it: an agent in a tool, a failure, a refusal, a correction, a shortened history."""
    weather, research = (
        call("weather", "call_1_0", city="Oslo", unit="celsius"),
        call("research", "call_1_1", question="Is it raining?"),
    )
    wrong = call("wether", "call_1_2", city="Oslo")
    search = call("search", "call_1_0", query="rain Oslo", limit=3)
    broken = call(
        "archive",
        "call_5_0",
        year=2025,
        filters={"kind": ["rain", "snow"], "places": ["Oslo", "Bergen", "Tromso"], "exact": True},
    )
    outer: list[Record] = [
        RunBegan(
            "Do I need a coat in Oslo?",
            (UserMessage("Hello"), AssistantMessage("Good morning.")),
            "clerk",
            "hf:Qwen/Qwen3-4B",
            "token",
            START,
        ),
        TurnBegan(1, "clerk", "hf:Qwen/Qwen3-4B", GRAMMAR, START + 0.01),
        TurnWritten(
            1,
            turn(
                "I will look.",
                weather,
                research,
                wrong,
                Fault("unknown_tool", (0, 1), "x", "no tool is called 'wether'", "wether"),
                thought="The user asks about the weather.\nTwo tools help.",
            ),
            usage=Usage(812, 96, 1),
            at=START + 1.3,
        ),
        CallBegan(weather, START + 1.31),
        CallBegan(research, START + 1.31),
        refused(wrong, "There is no tool 'wether'. Tools: weather, research.", 1.32),
        ran(weather, '{"temperature": -3, "sky": "clear"}', 1.62, 0.31),
        ran(research, "No rain is expected.", 3.9, 2.59, usage=Usage(640, 55, 2, 1)),
        HistoryShortened(2, (UserMessage("Summary: the user asks for the weather."),), Usage(300, 40), START + 4.4),
        TurnBegan(2, "clerk", "hf:Qwen/Qwen3-4B", "", START + 4.4),
        TurnWritten(2, turn(broken), usage=Usage(1020, 40, 1), guarantee="checked", at=START + 5.1),
        CallBegan(broken, START + 5.11),
        ran(broken, "The tool failed: TimeoutError", 6.0, 0.9, error="TimeoutError: no answer from archive.example"),
        TurnBegan(3, "clerk", "hf:Qwen/Qwen3-4B", "", START + 6.0),
        TurnWritten(3, turn("Perhaps."), usage=Usage(1100, 4, 1), at=START + 6.4),
        AnswerRejected(3, "the answer must be yes or no\nPlease answer again.", START + 6.41),
        TurnBegan(4, "clerk", "hf:Qwen/Qwen3-4B", 'start: "yes" | "no"', START + 6.41),
        TurnWritten(4, turn("yes", thought="It is cold."), usage=Usage(1130, 12, 1), at=START + 6.9),
        RunEnded("yes", at=START + 6.91),
    ]
    inner: list[Record] = [
        RunBegan("Is it raining?", (), "researcher", "hf:Qwen/Qwen3-1.7B", "token", START + 1.32),
        TurnBegan(1, "researcher", "hf:Qwen/Qwen3-1.7B", GRAMMAR, START + 1.33),
        TurnWritten(1, turn(search), usage=Usage(300, 25, 1), at=START + 2.0),
        CallBegan(search, START + 2.0),
        ran(search, "[]", 2.8, 0.8),
        TurnBegan(2, "researcher", "hf:Qwen/Qwen3-1.7B", "", START + 2.81),
        TurnWritten(2, turn("No rain is expected."), usage=Usage(340, 30, 1), at=START + 3.85),
        RunEnded("No rain is expected.", at=START + 3.88),
    ]
    return {"run-1": outer, "run-1/call_1_1": inner}


def waiting_run() -> dict[str, Sequence[Record]]:
    """A run that waits for the user's word, three days after which nothing more happened."""
    delete, read = call("delete", "call_1_0", path="/srv/old"), call("read", "call_1_1", path="/srv/old")
    return {
        "run-2": [
            RunBegan("Tidy up.", agent="clerk", model="m", at=START),
            TurnBegan(1, at=START),
            TurnWritten(1, turn(delete, read), usage=Usage(100, 20, 1), at=START + 2),
            CallBegan(read, START + 2),
            ran(read, "empty", 3, 1.0),
            RunWaited((PendingCall(delete, "approval", "run-2"),), START + 3),
        ]
    }


def settled_run() -> dict[str, Sequence[Record]]:
    """The same run, gone on with three days later."""
    later = 3 * 86400.0
    return {
        "run-2": [
            *waiting_run()["run-2"],
            CallSettled("call_1_0", "denied", "not this week", START + later),
            CallEnded("call_1_0", ToolMessage("not this week", "delete", "call_1_0", is_error=True), at=START + later),
            TurnBegan(2, at=START + later),
            TurnWritten(2, turn("As you wish."), usage=Usage(150, 5, 1), at=START + later + 1),
            RunEnded("As you wish.", at=START + later + 1),
        ]
    }


def killed_run() -> dict[str, Sequence[Record]]:
    """A run whose process died in a tool, went on, and died again while the model wrote."""
    pay = call("pay", "call_1_0", amount=3)
    think = call("look", "call_3_0_0", key="a")
    return {
        "run-3": [
            RunBegan("Pay the bill.", agent="clerk", model="m", guarantee="server", at=START),
            TurnBegan(1, at=START),
            TurnBegan(1, at=START + 5),
            TurnWritten(1, turn(pay), usage=Usage(100, 20, 1), guarantee="checked", at=START + 6),
            CallBegan(pay, START + 6),
            CallBegan(pay, START + 60),
            ran(pay, "paid", 61, 1.0),
            TurnBegan(2, at=START + 61),
            PartWritten(2, "<think>\nI look.\n(look)", Usage(120, 9), START + 62),
            CallBegan(think, START + 62),
        ]
    }
