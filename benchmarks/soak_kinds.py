"""The kinds of runs that the soak is made of."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from benchmarks.soak_scripts import CUT, HANG, HUGE, LOOP, Fails, Script
from hermes_agent import ModelError
from hermes_agent.messages import AssistantMessage, ToolCall

__all__ = ["KINDS", "one_of_each", "script_of"]

KINDS: dict[str, tuple[int, Callable[[Script], None]]] = {}
"""How often a kind of run is among the others, and what fills its script."""


def kind(weight: int) -> Callable[[Callable[[Script], None]], Callable[[Script], None]]:
    """Add a kind of run."""

    def add(fill: Callable[[Script], None]) -> Callable[[Script], None]:
        KINDS[fill.__name__] = (weight, fill)
        return fill

    return add


def script_of(number: int, seed: int) -> Script:
    """The script of a run: the same for the same number and seed."""
    random = Random(f"{seed}-{number}")
    names = list(KINDS)
    name = random.choices(names, [KINDS[name][0] for name in names])[0]
    script = Script(number, name, random, journalled=random.random() < 0.5)
    KINDS[name][1](script)
    return script


def one_of_each(seed: int) -> list[Script]:
    """A run of each kind on each agent in each way, under high numbers: after them everything is warm."""
    scripts = (script_of(10**9 + number, seed) for number in range(3000))
    return list({(s.kind, s.agent, s.drive, s.journalled): s for s in scripts}.values())


@kind(6)
def plain(s: Script) -> None:
    s.drive = s.one_of("run", "run", "stream", "override")
    s.ends_well()


@kind(12)
def calls(s: Script) -> None:
    s.drive = s.one_of("run", "stream")
    s.agent = s.one_of("all", "narrow", "sequential")
    for _ in range(s.random.randrange(1, 4)):
        s.writes(*s.some(6))
    if s.random.random() < 0.3:
        s.writes(s.adds(), s.call("alone", s.says("alone")), s.adds())
    s.ends_well()


@kind(8)
def failing(s: Script) -> None:
    s.drive = s.one_of("run", "stream")
    how = s.one_of("ValueError", "KeyError", "SystemExit", "ExceptionGroup")
    s.writes(s.adds(), s.call(s.one_of("fail", "fail_async"), LOOP, how=how), s.adds())
    s.ends_well()


@kind(4)
def failing_for_good(s: Script) -> None:
    s.agent, s.ends = "strict", "ToolFailedError"
    s.writes(*s.some(), s.call(s.one_of("fail", "fail_async"), LOOP, how="ValueError"))


@kind(5)
def retried(s: Script) -> None:
    s.drive = s.one_of("run", "stream")
    tool = s.one_of("picky", "picky_async")
    s.writes(s.call(tool, s.says("is too small"), good=False), s.adds())
    s.writes(s.call(tool, s.says("is good"), good=True))
    s.ends_well()


@kind(3)
def retried_too_often(s: Script) -> None:
    s.ends = "InvalidTurnError"
    for _ in range(4):
        s.writes(s.call("picky", s.says("is too small"), good=False))


@kind(6)
def hanging(s: Script) -> None:
    s.drive = s.one_of("run", "stream")
    s.writes(s.call(s.one_of("hang", "hang_async"), LOOP), *s.some(2), s.call("hang_async", LOOP))
    s.ends_well()


@kind(4)
def hanging_threads(s: Script) -> None:
    s.writes(*(s.call("hang", LOOP) for _ in range(s.random.randrange(1, 4))))
    s.writes(*s.some(2))
    s.ends_well()


@kind(6)
def cancelled(s: Script) -> None:
    s.drive, s.ends, s.results = "cancel", "cancelled", None
    s.writes(*s.some(2))
    if s.random.random() < 0.3:
        s.turns.append(HANG)
    else:
        s.writes(s.adds(), s.call(s.one_of("stay", "stay_thread"), LOOP), s.call("hang_async", LOOP))


@kind(6)
def cancelled_anywhere(s: Script) -> None:
    s.drive, s.ends = "anywhere", "answered" if s.journalled else "either"
    s.writes(*s.some(3))
    s.writes(*s.some(3))
    s.ends_well()


@kind(5)
def resumed(s: Script) -> None:
    s.drive, s.journalled = "resume", True
    s.writes(*s.some(2))
    if s.random.random() < 0.5:
        s.writes(s.adds(), s.call("again", s.says("at last")))
    else:
        s.writes(s.adds(), s.call(s.one_of("stay", "stay_thread"), s.says("was supplied")))
    s.ends_well()


@kind(3)
def huge(s: Script) -> None:
    s.drive = s.one_of("run", "stream")
    start = s.says("")
    cut = f"{start.ljust(CUT, 'x')}\n[… {HUGE - CUT} more characters were left out]"
    s.writes(s.adds(), *(s.call(s.one_of("huge", "huge_async"), cut) for _ in range(s.one_of(1, 1, 2))))
    s.ends_well()


@kind(4)
def telling_progress(s: Script) -> None:
    s.drive, s.progress = "stream", 6
    s.writes(s.call("walk", s.says("arrived")), s.call("walk_async", s.says("arrived")), s.adds())
    s.ends_well()


def _asks(s: Script) -> ToolCall:
    """A call that waits for the word in its arguments."""
    word = s.one_of("approved", "denied", "supplied")
    results = {"approved": s.says("was allowed"), "denied": f"Not run: {s.says('denied')}"}
    return s.call(s.one_of("ask", "ask_maybe"), results.get(word, s.says("supplied")), word=word)


@kind(7)
def paused(s: Script) -> None:
    s.drive = "pause"
    for _ in range(s.one_of(1, 1, 2)):
        s.pauses += 1
        s.writes(s.adds(), *(_asks(s) for _ in range(s.one_of(1, 2))))
    if s.random.random() < 0.3:
        s.pauses += 1
        s.writes(s.call("remote", s.says("supplied")))
    s.ends_well()


@kind(3)
def paused_inside(s: Script) -> None:
    s.drive, s.agent, s.pauses = "pause", "outer", 1
    s.inner = [AssistantMessage(tool_calls=(_asks(s),)), s.says("inner done")]
    s.results = [s.says("inner done")]
    s.turns.append(AssistantMessage(tool_calls=(ToolCall("inner", {"prompt": s.says("inner")}), s.adds())))
    s.ends_well()


@kind(6)
def left(s: Script) -> None:
    s.drive, s.ends, s.results = "leave", "left", None
    s.writes(*s.some(2))
    s.writes(s.adds(), s.call(s.one_of("stay", "stay_thread"), LOOP))


@kind(5)
def agents_inside(s: Script) -> None:
    s.drive, s.agent = s.one_of("run", "stream"), "outer"
    assert s.results is not None
    failing = s.random.random() < 0.3
    adding = AssistantMessage(tool_calls=(ToolCall("add", {"n": s.number, "a": 1, "b": 2}),))
    s.inner = [adding, Fails(ModelError(s.says("broke"))) if failing else s.says("inner done")]
    asked = tuple(ToolCall("inner", {"prompt": s.says("inner")}) for _ in range(s.one_of(1, 3)))
    s.results += [LOOP if failing else s.says("inner done")] * len(asked)
    s.turns.append(AssistantMessage(tool_calls=(*asked, s.adds())))
    s.ends_well()


@kind(3)
def handed_over(s: Script) -> None:
    s.agent = "front"
    assert s.results is not None
    s.results.append("The conversation was handed over to back.")
    s.turns.append(AssistantMessage(tool_calls=(ToolCall("transfer_to_back", {}),)))
    s.writes(*s.some())
    s.ends_well()


@kind(4)
def hooked(s: Script) -> None:
    s.drive, s.agent = s.one_of("run", "stream"), "hooked"
    s.writes(s.adds(), s.call("barred", s.says("is not allowed")))
    s.turns.append(s.says("must be said again"))
    s.ends_well()


@kind(2)
def hook_raises(s: Script) -> None:
    s.agent, s.ends, s.results = "hooked", "HookError", None
    s.writes(s.adds(), s.call("trap", LOOP), s.call("hang_async", LOOP))


@kind(4)
def limited(s: Script) -> None:
    s.ends, s.drive = "LimitExceededError", s.one_of("run", "stream")
    which = s.one_of("steps", "calls", "repeats", "seconds")
    s.agent = f"raise_{which}"
    _to_the_limit(s, which)


@kind(4)
def limited_to_an_answer(s: Script) -> None:
    s.limited, s.drive = True, s.one_of("run", "stream")
    which = s.one_of("steps", "calls", "repeats", "seconds")
    s.agent = f"answer_{which}"
    _to_the_limit(s, which)


def _to_the_limit(s: Script, which: str) -> None:
    match which:
        case "steps":  # 3, of which one is kept for an answer
            for _ in range(2 if s.limited else 3):
                s.writes(*s.some(2))
        case "calls":  # 2
            s.writes(s.adds())
            s.writes(*(s.call("add", LOOP, a=1, b=2) for _ in range(2)))
        case "repeats":  # 2
            for _ in range(2):
                s.writes(s.call("add", s.says("gives 3"), a=1, b=2))
            s.writes(s.call("add", LOOP, a=1, b=2))
        case _:  # of "seconds" it is not known how far they reach
            s.results = None
            s.writes(s.adds(), s.call(s.one_of("stay", "stay_thread"), LOOP))
    s.turns.append(s.answer)


@kind(5)
def bad_turns(s: Script) -> None:
    s.drive = s.one_of("run", "stream")
    s.turns.append(f"<tool_call>\n{s.says('is no call')}\n</tool_call>")
    s.writes(s.call("nothing", LOOP), s.adds())
    s.writes(s.call("add", LOOP, a="many", b=1), s.adds())
    s.ends_well()


@kind(3)
def bad_for_good(s: Script) -> None:
    s.ends = "InvalidTurnError"
    s.turns += [f"<tool_call>\n{s.says('is no call')}\n</tool_call>"] * 4


@kind(5)
def model_fails(s: Script) -> None:
    s.drive = s.one_of("run", "stream")
    s.ends = s.one_of("ModelError", "RuntimeError")
    if s.random.random() < 0.5:
        s.writes(*s.some(2))
    if s.ends == "RuntimeError":
        s.results = None  # no error of ours: it carries no conversation
    s.turns.append(Fails((ModelError if s.ends == "ModelError" else RuntimeError)(s.says("broke"))))


@kind(5)
def validated(s: Script) -> None:
    s.agent, s.drive = "typed", s.one_of("run", "stream")
    s.writes(*s.some(2))
    s.turns += [s.says("is text"), str(s.number + 1)]
    s.ends_well()


@kind(3)
def never_valid(s: Script) -> None:
    s.agent, s.ends = "typed", "InvalidOutputError"
    s.turns += [str(s.number + 1)] * 4 if s.random.random() < 0.7 else ["-1"]
