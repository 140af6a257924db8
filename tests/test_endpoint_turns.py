"""Turns that take several requests, over real sockets: what is asked behind what, what is kept, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_agent import Agent, Limits
from hermes_agent.errors import ModelError
from hermes_agent.formats import TurnGrammar, parse
from hermes_agent.messages import UserMessage
from hermes_agent.models.base import Chunk, Request
from hermes_agent.models.endpoint import Endpoint
from hermes_agent.models.servers import Wire
from hermes_agent.models.written import Behind, Until
from hermes_agent.reasoning import Mode, Reasoning
from tests.scripted_server import ScriptedServer
from tests.told import ADD, CALL, Told, deltas, say, texts

pytestmark = pytest.mark.anyio
TAGS = "<think>", "</think>"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def cut(text: str, sizes: Sequence[int]) -> list[str]:
    pieces: list[str] = []
    for size in sizes:
        pieces, text = [*pieces, text[:size]], text[size:]
    return [*pieces, text]


# --- a second thought, where the answer is asked for anew


@pytest.mark.parametrize("wire", ["chat", "native"])
@pytest.mark.parametrize(
    "second",
    [
        [{"content": "<think>"}, {"content": "again"}, {"content": "</think>"}, {"content": "\n\nYes."}],
        [{"content": "\n<thi"}, {"content": "nk>again</thi"}, {"content": "nk>\nYes."}],
        [{"reasoning": "again"}, {"content": "Yes."}],
    ],
)
async def test_a_second_thought_is_left_out_and_the_answer_behind_it_kept(
    wire: Wire, second: list[dict[str, Any]]
) -> None:
    thinks = deltas(*[{"reasoning": "hm "}] * 40, {"content": "Late."})
    came = await say(thinks, deltas(*second), server="ollama", wire=wire, reasoning=Reasoning("on", max_tokens=5))
    assert came.turn.text == "Yes."
    assert came.text.count("<think>") == came.text.count("</think>") == 1
    assert "again" not in came.text
    assert came.last.thinking_tokens == 5
    assert came.last.output_tokens == 5 + len(second)


async def test_a_second_thought_without_an_end_leaves_no_answer() -> None:
    thinks, again = (
        deltas(*[{"reasoning": "hm "}] * 40),
        deltas({"content": "<think>a"}, {"content": "b"}, finish="length"),
    )
    came = await say(thinks, again, server="ollama", reasoning=Reasoning("on", max_tokens=5))
    assert (came.turn.text, came.last.finish_reason) == ("", "length")
    assert came.text.count("<think>") == 1


@given(st.sampled_from(["", "\n", " x", "<", "<thin"]), st.lists(st.integers(0, 9), max_size=8))
def test_what_comes_behind_a_thought_is_the_same_however_it_is_cut(answer: str, sizes: list[int]) -> None:
    for text, wanted in (("\n<think>\na < b</think>\n" + answer, answer.lstrip()), (answer, answer)):
        behind = Behind(TAGS)
        assert "".join(map(behind.push, cut(text, sizes))) + behind.rest() == wanted


@given(st.sampled_from(["", "</thin", "a</", "<<"]), st.booleans(), st.lists(st.integers(0, 9), max_size=8))
def test_text_up_to_a_tag_is_the_same_however_it_is_cut(text: str, tag: bool, sizes: list[int]) -> None:
    until = Until(TAGS[1])
    found = "".join(map(until.push, cut(text + "</Think>b" * tag, sizes))) + until.rest()
    assert (found, until.reached) == (text, tag)


# --- forms that the server turns down behind a thought


async def test_a_form_that_is_refused_behind_a_thought_makes_room_for_the_next() -> None:
    refused = 400, '{"error": {"message": "Unknown field: structured_outputs.structural_tag"}}'
    grammar = TurnGrammar((), list[int], reasoning="on")
    request = Request([UserMessage("x")], grammar=grammar, output=grammar.output, reasoning=Reasoning("on"))
    with Told([texts("hm"), refused, texts("[1]"), texts("hm"), texts("[2]")]) as told:
        endpoint = Endpoint("m", server="vllm", base_url=told.url, max_retries=0)
        found = ["".join([chunk.text async for chunk in endpoint.generate(request)]) for _ in range(2)]
        await endpoint.aclose()
        bodies = [asked.json for asked in told.requests if asked.path.endswith("completions")]
    assert found == [f"<think>\nhm\n</think>\n[{n}]" for n in (1, 2)]
    forms = [list(body.get("structured_outputs", ())) for body in bodies]
    assert forms == [[], ["structural_tag"], ["grammar"], [], ["grammar"]]
    assert bodies[1]["prompt"] == bodies[2]["prompt"]


async def test_a_server_that_refuses_every_form_still_answers() -> None:
    refused = 400, '{"error": {"message": "Unknown field: structured_outputs"}}'
    grammar = TurnGrammar((), list[int], reasoning="on")
    came = await say(
        texts("hm"), *[refused] * 3, texts("[1]"),
        wire="completions", grammar=grammar, output=grammar.output, reasoning=Reasoning("on"),
    )  # fmt: skip
    assert "structured_outputs" not in came.asked[-1]
    assert (came.turn.text, came.last.guarantee) == ("[1]", "checked")


# --- servers that do not stop where they are told to


@pytest.mark.parametrize(
    "first", [("thought", ".</think>", "\n42"), ("thought.", "</th", "ink>\n", "42"), ("thought.</think>\n42",)]
)
async def test_a_server_that_ignores_stops_does_not_answer_twice(first: tuple[str, ...]) -> None:
    came = await say(
        texts(*first), texts("43"), wire="completions", server="llamacpp", reasoning=Reasoning("on", max_tokens=50)
    )
    assert came.text == "<think>\nthought.\n</think>\n43"
    assert came.asked[1]["prompt"].endswith("thought.\n</think>\n")
    assert not came.last.thought_cut


async def test_a_server_that_ignores_stops_is_still_held_to_the_grammar_behind_its_thought() -> None:
    grammar = TurnGrammar((), list[int], reasoning="auto")
    came = await say(
        texts("<think>", "\nhm", "</think>", "Well"), texts("[1]"),
        wire="completions", grammar=grammar, output=grammar.output, reasoning=Reasoning("auto"),
    )  # fmt: skip
    assert came.text == "<think>\nhm\n</think>\n[1]"
    assert came.asked[1]["structured_outputs"]


# --- what it costs


async def test_the_cost_of_a_request_that_is_left_counts() -> None:
    grammar = TurnGrammar((), list[int], reasoning="auto")
    came = await say(
        texts("Well", ", let me see", tokens=2), texts("[1]", tokens=3),
        wire="completions", grammar=grammar, output=grammar.output, reasoning=Reasoning("auto"), max_tokens=50,
    )  # fmt: skip
    assert (came.text, came.last.output_tokens, came.last.thinking_tokens) == ("[1]", 4, 0)
    assert came.asked[1]["max_tokens"] == 49


async def test_every_chunk_tells_what_the_turn_has_cost_so_far() -> None:
    replies = texts("a", "b", "c", tokens=3), texts("d", "e", tokens=2)
    with Told([*replies]) as told:
        endpoint = Endpoint("m", server="vllm", base_url=told.url)
        request = Request([UserMessage("x")], reasoning=Reasoning("on", max_tokens=9))
        chunks: list[Chunk] = [chunk async for chunk in endpoint.generate(request)]
        await endpoint.aclose()
    assert [(c.text, c.output_tokens, c.thinking_tokens) for c in chunks] == [
        ("<think>\n", 0, 0), ("a", 1, 1), ("b", 2, 2), ("c", 3, 3),
        ("\n</think>\n", 3, 3), ("d", 4, 3), ("e", 5, 3), ("", 5, 3),
    ]  # fmt: skip


async def test_a_thought_that_the_model_chose_is_counted_up_to_its_end() -> None:
    with Told([texts("<think>", "\n", "a", "</think>", "\n", "b")]) as told:
        endpoint = Endpoint("m", server="vllm", base_url=told.url)
        request = Request([UserMessage("x")], reasoning=Reasoning("auto"))
        chunks = [chunk async for chunk in endpoint.generate(request)]
        await endpoint.aclose()
    assert [(c.output_tokens, c.thinking_tokens) for c in chunks] == [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 3),
        (5, 3),
        (6, 3),
        (6, 3),
    ]


async def test_a_budget_shrinks_with_every_call_inside_the_thought() -> None:
    call = ["<tool_call>\n", '{"name": "add", ', '"arguments": {"a": 1}}\n', "</tool_call>"]
    asked: list[int] = []

    def script(body: dict[str, Any]) -> Sequence[str]:
        stops = "</think>" in body["stop"]
        asked.append(body["max_tokens"])
        if not stops:
            return ["Done."]
        return ["I ", "add.\n", *call, "\nand ", "more"] if len(asked) < 4 else ["enough."]

    with ScriptedServer(script) as server:
        endpoint = Endpoint("m", server="vllm", base_url=server.url)
        agent = Agent(
            endpoint,
            tools=[ADD],
            reasoning=Reasoning("on", max_tokens=100, calls="inline"),
            limits=Limits(turn_tokens=1000),
        )
        result = await agent.run("1 + 0?")
        await endpoint.aclose()
    assert (result.output, result.usage.tool_calls) == ("Done.", 3)
    assert asked == [100, 94, 88, 82, 1000 - 3 * 6 - 1]
    assert result.usage.output_tokens == 3 * 6 + 1 + 1


# --- a server's own limit


async def test_without_a_limit_of_ours_a_turn_that_the_server_cut_off_is_continued() -> None:
    came = await say(
        texts("one ", finish="length", tokens=4096), texts("two", tokens=1), wire="completions", max_tokens=None
    )
    assert (came.text, came.last.finish_reason, came.last.output_tokens) == ("one two", "stop", 4097)


async def test_without_a_limit_of_ours_a_thought_that_the_server_cut_off_is_continued() -> None:
    grammar = TurnGrammar((), list[int], reasoning="on")
    came = await say(
        texts("one ", finish="length", tokens=4096), texts("two", tokens=1), texts("[1]", tokens=3),
        wire="completions", grammar=grammar, output=grammar.output, reasoning=Reasoning("on"),
    )  # fmt: skip
    assert came.text == "<think>\none two\n</think>\n[1]"
    assert (came.last.thinking_tokens, came.last.thought_cut, came.last.output_tokens) == (4097, False, 4100)


@pytest.mark.parametrize("tools", [[], [ADD]])
async def test_free_text_that_the_server_cut_off_is_continued_without_its_grammar(tools: list[Any]) -> None:
    grammar = TurnGrammar(tools)
    came = await say(
        texts("one ", finish="length", tokens=1), texts("two", tokens=1),
        wire="completions", server="llamacpp", grammar=grammar, tools=tools, max_tokens=50,
    )  # fmt: skip
    assert [("grammar" in body) for body in came.asked] == [True, False]
    assert (came.text, came.last.finish_reason, came.last.guarantee) == ("one two", "stop", "checked")


@pytest.mark.parametrize("grammar", [TurnGrammar((), list[int]), TurnGrammar([ADD], tool_choice="required")])
async def test_what_needs_its_grammar_is_not_continued_without(grammar: TurnGrammar) -> None:
    came = await say(
        texts("[1", finish="length", tokens=1), wire="completions", server="llamacpp",
        grammar=grammar, output=grammar.output, tools=grammar.tools, max_tokens=50,
    )  # fmt: skip
    assert (len(came.asked), came.last.finish_reason) == (1, "length")


async def test_nothing_is_asked_for_behind_a_thought_that_took_all() -> None:
    thinks = texts("<think>", "\n", *"abcdef")
    came = await say(thinks, wire="completions", reasoning=Reasoning("auto", max_tokens=3), max_tokens=4)
    assert (len(came.asked), came.last.finish_reason, came.last.thought_cut) == (1, "length", True)


# --- calls inside a thought


@pytest.mark.parametrize("wire", ["chat", "native"])
@pytest.mark.parametrize("mode", ["on", "auto"])
async def test_calls_inside_thoughts_are_refused_before_any_is_run(wire: Wire, mode: Mode) -> None:
    with Told([deltas({"content": f"<think>\n{CALL}\n"})]) as told:
        endpoint = Endpoint("m", server="ollama", base_url=told.url, wire=wire)
        ran: list[int] = []

        def add(a: int) -> int:
            """Add."""
            ran.append(a)
            return a

        with pytest.raises(ModelError, match="inline") as caught:
            await Agent(endpoint, tools=[add], reasoning=Reasoning(mode, calls="inline")).run("x")
        await endpoint.aclose()
        assert not [asked for asked in told.requests if asked.path.endswith("completions")]
    assert not ran
    assert 'calls="use"' in caught.value.hint


async def test_where_nothing_is_thought_calls_inside_thoughts_need_no_wire() -> None:
    came = await say(deltas({"content": "x"}), server="ollama", reasoning=Reasoning("off", calls="inline"))
    assert parse(came.text).text == "x"


async def test_a_thought_that_is_taken_up_is_cut_at_its_tag_too() -> None:
    came = await say(
        texts("more</think>\n42"), texts("43"),
        wire="completions", make=lambda r: replace(r, prefix="<think>\nSome "), reasoning=Reasoning("on", max_tokens=9),
    )  # fmt: skip
    assert came.text == "more\n</think>\n43"
