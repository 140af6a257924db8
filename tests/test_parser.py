"""The parser's laws, its options, and texts made to hurt it."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent.errors import ConfigurationError
from hermes_agent.events import ArgumentsDelta, CallCompleted, CallStarted, FaultFound, ReasoningDelta, TextDelta
from hermes_agent.formats.dialects import dialect
from hermes_agent.formats.parser import TurnParser, parse
from hermes_agent.formats.repair import ALL_REPAIRS, DEFAULT_REPAIRS
from hermes_agent.formats.scan import MAX_DEPTH, ValueScanner
from hermes_agent.formats.tags import FORBIDDEN_IN_TEXT
from hermes_agent.formats.wire import serialise_call, serialise_calls
from hermes_agent.messages import ToolCall
from hermes_agent.output import JsonSchema, Output
from hermes_agent.tool import Tool
from hermes_agent.turn import Turn
from tests.parsing import check, read, stream

CALL = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
TYPED = Output.of(JsonSchema({"type": "object"}))

LOOKALIKES = (
    "<th\u0131nk>", "</th\u0131nk>", "<thin\u212a>", "<tool_re\u017fponse>", "<funct\u0131on=f>", "<TH\u0130NK>",
    "</\u017fcratch_pad>", "</thin\u212a>",
)  # fmt: skip
"""No tags, although in Unicode these letters are other cases of those in tags."""

FRAGMENTS = [
    "<tool_call>", "</tool_call>", "<tool_call>\n", "\n</tool_call>", '{"name": "f", "arguments": {"a": 1}}',
    '{"name": "g", "arguments": {}}', '{"name": "nope", "arguments": {}}',
    '{"arguments": {"x": "</tool_call>"}, "name": "f"}',
    "{'name': 'f', 'arguments': {'q': \"it's\", 'b': True}}", "<think>", "</think>", "<think>\n", "\n</think>\n", "\n",
    "  ", "word ", "Hello", "\n\n", "<tool_response>", "<|im_end|>", "<TOOL_CALL>", "</TOOL_CALL>", "<toolcall>",
    "</toolcall>", "[TOOL_CALL]", "[/TOOL_CALL]", "<function=f>", "<parameter=x>1</parameter>", "</function>",
    "<function><name>", "```json\n", "\n```", "{", "}", '"', "'", "[", "]", ",", "\\", "<", ">", "<b>", '{"name": "f"',
    '{"a": [1, 2', '"arguments": {"content": "hello } world', '\\"', "é😀", "NaN", "<tool", '{"tz": "B",}',
    '{"type": "function", "function": {"name": "f", "arguments": "{\\"x\\": 1}"}}', "`<think>`", "\t", "\r\n", "</tool",
    '{"name": "f", "arguments": {"c": "l1\nl2"}}', '<tool_call id="1">', "<scratch_pad>", "</scratch_pad>",
    "<THINK>", "</Think>", "</SCRATCH_PAD>", *LOOKALIKES, "\u0131", "\u017f", "\u212a", "\u0130",
]  # fmt: skip

texts = st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join)
options = st.fixed_dictionaries(
    {
        "tools": st.sampled_from([None, [], ["f", "g"]]),
        "repairs": st.sampled_from([DEFAULT_REPAIRS, ALL_REPAIRS, frozenset[str]()]),
        "reasoning_calls": st.sampled_from(["ignore", "use"]),
        "reasoning_open": st.booleans(),
        "dialect": st.sampled_from([None, "hermes-3-scratch-pad", "hermes-4-70b"]),
        "output": st.sampled_from([None, Output.text(), TYPED]),
    }
)
reasons = st.sampled_from([None, "stop", "length"])


@settings(max_examples=300, deadline=None)
@given(texts, options, reasons, st.randoms(use_true_random=False))
def test_every_chunking_gives_the_same_turn(
    text: str, given_: dict[str, Any], reason: Any, draw: random.Random
) -> None:
    whole = parse(text, finish_reason=reason, **given_)
    cuts = sorted(draw.choices(range(len(text) + 1), k=draw.randint(1, 20)))
    pieces = [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    for chunks in (pieces, list(text)):
        turn, events = stream(chunks, reason, **given_)
        assert turn == whole
        check(text, turn, events)


@settings(max_examples=300, deadline=None)
@given(texts)
def test_a_call_is_complete_json_between_tags(text: str) -> None:
    """Without repairs, a call's raw text is exactly a JSON object with a name and arguments."""
    import json

    for call in parse(text, repairs=()).tool_calls:
        value = json.loads(call.raw)
        assert (value["name"], value["arguments"]) == (call.name, call.arguments)
        assert call.repairs == ()


names = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: _encodes(value))


def _encodes(value: object) -> bool:
    try:
        repr(value).encode()
    except UnicodeEncodeError:
        return False
    return True


calls = st.tuples(names, st.dictionaries(st.text(max_size=8).filter(_encodes), values, max_size=3))


@settings(max_examples=150, deadline=None)
@given(st.lists(calls, min_size=1, max_size=3))
def test_what_we_write_we_read(written: list[tuple[str, dict[str, Any]]]) -> None:
    turn = parse(f"<think>\nhm\n</think>\nOn it.\n{serialise_calls(written)}")
    assert [(call.name, call.arguments) for call in turn.tool_calls] == written
    assert all(call.repairs == () for call in turn.tool_calls)
    assert (turn.text, turn.reasoning, turn.faults, turn.repairs) == ("On it.", "hm", (), ())


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="abc <>{}[]\"'\n`\\|/_:1"))
def test_text_without_markup_is_kept_to_the_letter(text: str) -> None:
    turn = parse(text, tools=["a"])
    assert turn.text == text
    assert turn == Turn(turn.parts, raw=text)


@pytest.mark.parametrize("text", LOOKALIKES)
@pytest.mark.parametrize("name", [None, "hermes-3-scratch-pad"])
def test_letters_beyond_ascii_make_no_tags(text: str, name: str | None) -> None:
    assert read(text, tools=["f"], dialect=name).text == text
    thought = f"<think>\n{text}\n</think>\nb"
    assert (read(thought, dialect=name).reasoning, read(thought, dialect=name).text) == (text, "b")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("<THINK>\na\n</THINK>\nb", None),
        ("<think>a</THINK>b", None),
        ("<Think>a</thinK>b", "hermes-3-scratch-pad"),
        ("<Scratch_Pad>a</SCRATCH_PAD>b", "hermes-3-scratch-pad"),
    ],
)
def test_thinking_ends_as_it_begins_in_any_letter_case(text: str, name: str | None) -> None:
    turn = read(text, dialect=name)
    assert (turn.reasoning, turn.text, turn.faults, turn.repairs) == ("a", "b", (), ())


def test_thinking_that_the_prompt_opened_ends_in_any_letter_case() -> None:
    turn = read("a</Scratch_Pad>b", dialect="hermes-3-scratch-pad", reasoning_open=True)
    assert (turn.reasoning, turn.text, turn.faults, turn.repairs) == ("a", "b", (), ())


def test_thinking_tags_that_begin_with_a_letter() -> None:
    spoken = dialect("hermes-3", think_open="Thought:", think_close="Done.")
    for text in ("Thought: a Done.b", "thought: a DONE.b"):
        turn = read(text, dialect=spoken)
        assert (turn.reasoning, turn.text, turn.faults) == (" a ", "b", ())


# Text and events


def test_a_word_is_told_with_the_piece_that_brought_it() -> None:
    parser = TurnParser(tools=["f"])
    for piece in ("Hello", ", wor", "ld: a < b", " && [x]", " {y}", "."):
        assert parser.feed(piece) == [TextDelta(piece)]
    assert parser.feed(" ") == []
    assert parser.feed("x") == [TextDelta(" x")]


def test_events_of_a_turn() -> None:
    parser = TurnParser()
    assert parser.feed("<think>\nhm") == [ReasoningDelta("hm")]
    assert parser.feed("\n</think>\nOn it.\n<tool_call>") == [TextDelta("On it.")]
    assert parser.feed('\n{"name": "f", "arg') == [CallStarted(0, "f"), ArgumentsDelta(0, '{"name": "f", "arg')]
    assert parser.feed('uments": {}}\n</tool_call>') == [
        ArgumentsDelta(0, 'uments": {}}'),
        CallCompleted(0, ToolCall("f", {}, raw='{"name": "f", "arguments": {}}')),
    ]
    turn, events = parser.close("stop")
    assert events == []
    assert parser.finish() is turn


def test_a_broken_call_keeps_its_index() -> None:
    _, events = stream([f"<tool_call>oops</tool_call>{CALL}"])
    assert [type(e) for e in events] == [
        CallStarted, ArgumentsDelta, FaultFound, CallStarted, ArgumentsDelta, CallCompleted,
    ]  # fmt: skip
    told = [e.index for e in events if isinstance(e, CallStarted | ArgumentsDelta | CallCompleted)]
    assert told == [0, 0, 1, 1, 1]


def test_the_end_brings_what_was_held_back() -> None:
    parser = TurnParser()
    assert parser.feed("Hi <thi") == [TextDelta("Hi")]
    turn, events = parser.close()
    assert (turn.text, events) == ("Hi <thi", [TextDelta(" <thi")])


def test_white_space_beside_markup_is_dropped() -> None:
    turn = read(f"  \n One. \n\n {CALL}\n\n {CALL} \n Two. \n")
    assert turn.text == "  \n One.\nTwo. \n"
    assert read(" \n ").text == " \n "
    assert read("").parts == ()


def test_a_finished_turn_takes_no_more() -> None:
    parser = TurnParser()
    parser.finish()
    with pytest.raises(RuntimeError, match="finished"):
        parser.feed("x")


# Markup, tags and stops


@pytest.mark.parametrize("literal", FORBIDDEN_IN_TEXT)
@pytest.mark.parametrize("change", [str, str.upper])
def test_what_text_may_not_hold_never_passes_as_clean_text(literal: str, change: Any) -> None:
    text = f"Well.\n{change(literal)}"
    turn = read(text)
    assert turn.faults or turn.repairs or turn.reasoning is not None
    assert turn.text == "Well."


@pytest.mark.parametrize(
    "text",
    [
        "if a < b and c > d:\n    print(a[0], {'name': 1})\n",
        "<div class='tool'>\n<function name='x'/>\n</div>",
        "#include <functional>\nstd::function<void()> f;",
        "Write `<think>` and then `</think>`.",
        "A <tool> is a thing, <tools> are several.",
        '{"name": "Science Fair", "date": "Friday"}',
        '{"name": "unfinished',
        "[x] done, [TOOL] not\n",
        "gcloud functions deploy <function>\n",
    ],
)
def test_ordinary_answers_have_no_faults(text: str) -> None:
    turn = read(text, tools=["f"])
    assert (turn.text, turn.faults, turn.reasoning, turn.repairs) == (text, (), None, ())


def test_stops_end_the_turn() -> None:
    turn = read(f"Hi \n<|im_end|>\n{CALL}", "length")
    assert (turn.text, turn.tool_calls, turn.repairs) == ("Hi \n", (), ("stop_string",))
    assert read("Hi<|eot_id|>x", dialect="hermes-4-70b").text == "Hi"
    assert read("Hi<|eot_id|>x", dialect="chatml").text == "Hi<|eot_id|>x"
    # A stop behind a complete call closes it, whatever the finish reason says; inside a call it truncates.
    assert read(f"{CALL[:-13]}<|im_end|>", "length").tool_calls[0].repairs == ("missing_close",)
    turn = read('<tool_call>{"name": "f", "arguments": {"x": 1<|im_end|>')
    assert (turn.tool_calls, turn.faults[0].kind) == ((), "truncated")


def test_the_opening_tag_itself_cut_off() -> None:
    assert read("Hi <tool_c", "length").faults[0].kind == "truncated"
    assert read("Hi <tool_c").text == "Hi <tool_c"
    assert read("Hi <tool_call").faults[0].kind == "truncated"


def test_calls_in_code_fences_are_calls() -> None:
    turn = read(f"```xml\n{CALL}\n```")
    assert (turn.text, len(turn.tool_calls)) == ("```xml\n```", 1)


def test_stray_closing_tags() -> None:
    turn = read(f"{CALL}</tool_call>")
    assert (len(turn.tool_calls), turn.text, turn.faults, turn.repairs) == (1, "", (), ("orphan_close",))
    turn = read("Some words.</tool_call>")
    assert (turn.text, turn.faults[0].kind) == ("Some words.", "malformed")


def test_several_values_and_a_truncated_one() -> None:
    turn = read('<tool_call>{"name": "a", "arguments": {}}\n{"name": "b", "argum', "length")
    assert [call.name for call in turn.tool_calls] == ["a"]
    assert [(fault.kind, fault.name) for fault in turn.faults] == [("truncated", "b")]


def test_text_behind_the_json_spoils_the_call() -> None:
    turn = read('<tool_call>{"name": "f", "arguments": {}} or rather not</tool_call>')
    assert (turn.tool_calls, turn.faults[0].kind) == ((), "malformed")


def test_a_call_quoted_in_a_broken_string_is_not_a_call() -> None:
    """The document says it, not the model: the quote before it was not escaped."""
    document = 'He said "hi" <tool_call>{"name": "f", "arguments": {}}</tool_call>'
    turn = read(f'<tool_call>{{"name": "f", "arguments": {{"text": "{document}"}}}}</tool_call>')
    assert turn.tool_calls == ()
    assert "malformed" in {fault.kind for fault in turn.faults}


# Thinking


def test_thinking_blocks() -> None:
    turn = read(f"<think>\n\na\n\nb\n\n</think>\n\nOne.\n<think>c</think>{CALL}")
    assert (turn.reasoning, turn.text, len(turn.tool_calls)) == ("a\n\nb\nc", "One.", 1)
    assert read("<think></think>x").reasoning == ""
    assert read("x").reasoning is None


def test_thinking_that_never_ends_is_a_fault() -> None:
    for reason in ("stop", "length", None):
        turn = read("<think>\nOn and on", reason)
        assert (turn.reasoning, turn.text) == ("On and on", "")
        assert [fault.kind for fault in turn.faults] == ["truncated"]


def test_closing_tag_without_an_opening_one() -> None:
    turn = read("I told this already.\n</think>\nAnd this.")
    assert (turn.text, turn.reasoning) == ("I told this already.\nAnd this.", None)
    assert turn.repairs == ("orphan_think_close",)


def test_scratch_pad_is_the_dialects_thinking() -> None:
    text = f"<scratch_pad>\nGoal: x\n</scratch_pad>\n{CALL}"
    assert read(text, dialect="hermes-3-scratch-pad").reasoning == "Goal: x"
    assert read(text).reasoning is None


def test_a_truncated_call_closes_the_thinking_too() -> None:
    turn = read('<think>\nso:\n<tool_call>\n{"name": "f", "argu', "length")
    assert (turn.reasoning, turn.tool_calls, turn.faults[0].kind) == ("so:", (), "truncated")


# Options


def test_tools_in_every_form() -> None:
    def f(x: int) -> int:
        return x

    schema: dict[str, Any] = {"name": "f", "parameters": {"type": "object", "properties": {}}}
    forms: list[Any] = ["f", f, Tool.of(f), schema, {"type": "function", "function": schema}]
    for tool in forms:
        assert read(CALL, tools=[tool]).faults == ()
        assert parse(CALL, tools=iter([tool])).faults == ()
    turn = parse(CALL, tools=[])
    assert (len(turn.tool_calls), [fault.kind for fault in turn.faults]) == (1, ["unknown_tool"])


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"tools": "f"}, "'f'"),
        ({"tools": [3]}, "3"),
        ({"tools": [{"description": "no name"}]}, "no name"),
        ({"repairs": ["guess"]}, "guess"),
        ({"repairs": "python_literal"}, "python_literal"),
        ({"reasoning_calls": "maybe"}, "maybe"),
        ({"dialect": "hermes-99"}, "hermes-99"),
    ],
)
def test_bad_options_are_named(bad: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        parse("x", **bad)


def test_a_dialect_as_a_value() -> None:
    own = dialect("chatml", stops=("<END>",), think_open="<plan>", think_close="</plan>")
    turn = read("<plan>p</plan>x<END>y", dialect=own)
    assert (turn.reasoning, turn.text) == ("p", "x")


# Depth and size


def nested(depth: int) -> str:
    return f'<tool_call>{{"name": "f", "arguments": {{"x": {"[" * (depth - 2)}{"]" * (depth - 2)}}}}}</tool_call>'


def test_depth_is_bounded() -> None:
    assert read(nested(MAX_DEPTH)).faults == ()
    turn = read(f"{nested(MAX_DEPTH + 1)}\n{CALL}")
    assert ([fault.kind for fault in turn.faults], len(turn.tool_calls)) == (["malformed"], 1)


HOSTILE = {
    "angles": "<" * 100_000,
    "newlines": "\n" * 100_000,
    "braces": "{" * 100_000,
    "objects": '{"name": "x\n' * 10_000,
    "open tags": "<tool_call>" * 10_000,
    "open tags and braces": "<tool_call>{" * 10_000,
    "open tags and quotes": '<tool_call>{"a' * 10_000,
    "deep": '<tool_call>{"name": "f", "arguments": ' + '{"a":' * 100_000,
    "deep but tried": ("<tool_call>" + "[" * 300 + '"') * 300,
    "think": "<think>" * 10_000,
    "think and call": "<think>\n<tool_call>\n" * 5_000,
    "unthink": "</think>" * 10_000,
    "closing tags": "</tool_call>" * 10_000,
    "near misses": "<toolcall>" * 10_000,
    "open string": '<tool_call>{"name": "f", "arguments": {"a": "' + "x" * 100_000,
    "backslashes": '<tool_call>{"a": "' + "\\" * 100_000,
    "commas": '<tool_call>{"name": "f", "arguments": {"a": [' + "[1,]," * 10_000 + "]}}</tool_call>",
    "tags in a string": serialise_call("f", {"q": "</tool_call>" * 10_000}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_read_without_an_exception(name: str) -> None:
    text = HOSTILE[name]
    turn, events = stream([text], tools=["f"])
    check(text, turn, events)
    small = text[:3_000]
    assert stream(list(small), tools=["f"])[0] == parse(small, tools=["f"])


@pytest.mark.parametrize("name", HOSTILE)
def test_work_grows_with_the_text_and_no_faster(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts the characters that the scanner passes: no text is scanned more than a few times."""
    scanned = 0
    feed = ValueScanner.feed

    def counted(self: ValueScanner, text: str, pos: int) -> tuple[int, Any]:
        nonlocal scanned
        end, status = feed(self, text, pos)
        scanned += end - pos
        return end, status

    monkeypatch.setattr(ValueScanner, "feed", counted)
    text = HOSTILE[name]
    parse(text, tools=["f"])
    assert scanned <= 4 * len(text)
