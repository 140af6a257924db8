"""Several agents: one asks another, one hands over to another, one only chooses."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from hermes_agent import Agent, GuaranteeError, Limits, ModelError, RunContext, Tool
from hermes_agent.errors import ConfigurationError, LimitExceededError
from hermes_agent.messages import AssistantMessage, ToolCall, ToolMessage
from hermes_agent.pause import PausedRun
from hermes_agent.testing import ScriptedModel

pytestmark = pytest.mark.anyio


class Weather(BaseModel):
    degrees: int


def calls(*wanted: tuple[str, dict[str, Any]]) -> AssistantMessage:
    return AssistantMessage(tool_calls=tuple(ToolCall(name, arguments) for name, arguments in wanted))


def say(text: str) -> str:
    """Say."""
    return text


def told(messages: Any) -> list[str]:
    return [m.content for m in messages if isinstance(m, ToolMessage)]


async def test_an_agent_is_asked_as_a_tool_and_what_it_uses_counts() -> None:
    inner_model = ScriptedModel([calls(("say", {"text": "hm"})), '{"degrees": 7}'])
    inner = Agent(inner_model, tools=[say], output=Weather, name="weather", description="Knows the weather.")
    outer_model = ScriptedModel([calls(("weather", {"prompt": "Oslo?"})), "7 degrees."])
    outer = Agent(outer_model, tools=[inner.as_tool()])
    result = await outer.run("How warm is it in Oslo?")
    assert told(result.messages) == ['{"degrees": 7}']
    assert outer_model.requests[0].tools[0].description == "Knows the weather."
    assert [m.text for m in inner_model.requests[0].messages if m.role == "user"] == ["Oslo?"]
    assert result.usage.steps == 4
    assert result.usage.tool_calls == 2
    assert result.usage.output_tokens == sum(
        record.usage.output_tokens for run in result.records.values() for record in run if record.kind == "turn_written"
    )
    assert set(result.records) == {result.run_id, f"{result.run_id}/call_1_0"}


async def test_an_agent_inside_is_given_the_deps_of_the_run() -> None:
    def who(context: RunContext[str]) -> str:
        """Who."""
        return f"{context.deps} in {context.run_id.count('/')}, by {context.agent}"

    inner = Agent(ScriptedModel([calls(("who", {})), "ok"]), tools=[who], deps_type=str, name="inner")
    outer = Agent(ScriptedModel([calls(("inner", {"prompt": "?"})), "ok"]), tools=[inner.as_tool()], deps_type=str)
    result = await outer.run("?", deps="Ada")
    inside = result.records[f"{result.run_id}/call_1_0"]
    assert [r.message.content for r in inside if r.kind == "call_ended"] == ["Ada in 1, by inner"]


async def test_an_agent_inside_that_fails_is_a_tool_that_fails_and_still_counts() -> None:
    inner = Agent(ScriptedModel([calls(("say", {"text": "x"}))] * 3), tools=[say], limits=Limits(steps=2), name="inner")
    outer = Agent(ScriptedModel([calls(("inner", {"prompt": "?"})), "It failed."]), tools=[inner.as_tool()])
    result = await outer.run("?")
    assert told(result.messages)[0].startswith("Error: LimitExceededError: no answer after steps=2")
    assert result.usage.steps == 4


async def test_what_agents_inside_use_is_bounded_by_the_limits_of_the_run() -> None:
    inner = Agent(ScriptedModel([calls(("say", {"text": "x"})), "ok"] * 9), tools=[say], name="inner")
    outer = Agent(
        ScriptedModel([calls(("inner", {"prompt": "?"}))] * 9), tools=[inner.as_tool()], limits=Limits(steps=5)
    )
    with pytest.raises(LimitExceededError, match="steps=5"):
        await outer.run("?")


async def test_several_are_asked_side_by_side_and_kept_apart() -> None:
    inner = Agent(ScriptedModel([f"answer {n}" for n in range(3)]), name="inner")
    turn = calls(*(("inner", {"prompt": str(n)}) for n in range(3)))
    result = await Agent(ScriptedModel([turn, "ok"]), tools=[inner.as_tool()]).run("?")
    assert sorted(told(result.messages)) == ["answer 0", "answer 1", "answer 2"]
    assert len(result.records) == 4


async def test_a_conversation_is_handed_over() -> None:
    billing_model = ScriptedModel([calls(("say", {"text": "paid"})), "It was paid."])
    billing = Agent(billing_model, tools=[say], name="billing", description="Knows invoices.", instructions="You bill.")
    front_model = ScriptedModel([calls(("transfer_to_billing", {}))])
    front = Agent(front_model, instructions="You greet.", handoffs=[billing], name="front")
    result = await front.run("Was invoice 7 paid?")
    assert result.output == "It was paid."
    (transfer,) = front_model.requests[0].tools
    assert transfer.description == "Hand the conversation over to billing. Knows invoices."
    shown = list(billing_model.requests[0].messages)
    assert shown[0].role == "system"
    assert getattr(shown[0], "text", "") == "You bill."
    assert [m.role for m in shown[1:4]] == ["user", "assistant", "tool"]
    assert result.usage.steps == 3
    assert [r.agent for r in result.records[result.run_id] if r.kind == "turn_began"] == ["front", "billing", "billing"]


async def test_a_conversation_is_handed_over_once_a_turn() -> None:
    one, two = Agent(ScriptedModel(["I am one."]), name="one"), Agent(ScriptedModel(["I am two."]), name="two")
    turn = calls(("transfer_to_two", {}), ("transfer_to_one", {}))
    result = await Agent(ScriptedModel([turn]), handoffs=[one, two]).run("?")
    assert result.output == "I am two."
    assert told(result.messages)[1] == "Not run, because the conversation can be handed over once a turn."


async def test_a_router_can_only_choose() -> None:
    agents = [Agent(ScriptedModel(["4"]), output=int, name=name) for name in ("sums", "dates")]
    model = ScriptedModel([calls(("transfer_to_sums", {}))])
    router = Agent.router(agents, model)
    assert (await router.run("2 + 2?")).output == 4
    grammar = router.grammar
    allowed = '<tool_call>\n{{"name": "transfer_to_{}", "arguments": {{}}}}\n</tool_call>'
    assert grammar.accepts(allowed.format("sums"))
    assert grammar.accepts(allowed.format("dates"))
    assert not grammar.accepts(allowed.format("sums") + "\n" + allowed.format("dates"))
    assert not grammar.accepts(allowed.format("news"))
    assert not grammar.accepts("4")


def test_agents_that_cannot_hand_over_to_each_other_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="two agents to hand over to are called 'agent'"):
        Agent(handoffs=[Agent(), Agent()])
    with pytest.raises(ConfigurationError, match="'sums' answers with 'int', not with 'str'"):
        Agent(handoffs=[Agent(output=int, name="sums")])
    with pytest.raises(ConfigurationError, match="nobody to hand over to"):
        Agent.router([])


async def test_another_model_for_the_time_of_a_block() -> None:
    agent = Agent(ScriptedModel(["real"] * 2), name="a")
    other = Agent(ScriptedModel(["other"]), name="b")
    with agent.override(model=ScriptedModel(["outer"] * 2)):
        with agent.override(model=ScriptedModel(["inner"])):
            assert (await agent.run("?")).output == "inner"
        assert (await agent.run("?")).output == "outer"
        assert (await other.run("?")).output == "other"
    assert (await agent.run("?")).output == "real"


async def test_a_model_is_overridden_for_agents_inside_as_well() -> None:
    inner = Agent(ScriptedModel([]), name="inner")
    outer = Agent(ScriptedModel([calls(("inner", {"prompt": "?"})), "ok"]), tools=[inner.as_tool()])
    with inner.override(model=ScriptedModel(["scripted"])):
        assert told((await outer.run("?")).messages) == ["scripted"]


async def test_the_guarantee_is_the_weakest_of_all_agents_that_had_the_conversation() -> None:
    def pair(first: str, second: str) -> Agent[None, str]:
        other = Agent(ScriptedModel(["ok"]), name="other", constrain=second)  # type: ignore[call-overload]  # spelled below
        turn = calls(("transfer_to_other", {}))
        made: Agent[None, str] = Agent(ScriptedModel([turn], guarantee="token"), handoffs=[other], constrain=first)  # type: ignore[call-overload]
        return made

    result = await pair("auto", "auto").run("?")
    assert result.guarantee == "checked"
    for first, second in (("strict", "auto"), ("auto", "strict"), ("strict", "off")):
        with pytest.raises(GuaranteeError):
            await pair(first, second).run("?")
    again = await pair("auto", "auto").resume(PausedRun(result.run_id, result.records))
    assert again.guarantee == "checked"


async def test_an_agent_that_is_gone_is_missed_by_name() -> None:
    other = Agent(ScriptedModel([]), name="other")
    first = Agent(ScriptedModel([calls(("transfer_to_other", {}))]), handoffs=[other], name="first")
    with pytest.raises(ModelError) as caught:  # the other has nothing to say
        await first.run("?")
    alone = Agent(ScriptedModel([]), name="first")
    with pytest.raises(ConfigurationError, match="'first' cannot hand over to 'other'"):
        await alone.resume(PausedRun(caught.value.run_id, caught.value.records))


async def test_an_agent_that_waits_out_of_sight_is_a_mistake_with_a_way_out() -> None:
    inner = Agent(ScriptedModel([calls(("pay", {}))]), tools=[Tool.from_schema(name="pay", parameters={})])

    async def asks() -> str:
        """Ask."""
        return (await inner.run("?")).output

    with pytest.raises(ConfigurationError, match=r"'asks' asked an agent.*out of sight[\s\S]*as_tool"):
        await Agent(ScriptedModel([calls(("asks", {}))]), tools=[asks]).run("?")
