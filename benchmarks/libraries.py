"""The same agent in each library: one tool, ``add``, and a fake model that calls it n times and then answers.

Each library gets what its own tests would use for a fake model, its usual blocking entry point, and no tracing,
no logging, no limits. The functions are called with a `Script` and return the run, ready to go, so that building
the agent stays outside the clock. Libraries are imported inside, since any of them may be missing.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ANSWER", "LIBRARIES", "Prepare", "Script", "sums"]

ANSWER = "The sum is 5."
ARGUMENTS = {"a": 2, "b": 3}
ARGUMENTS_JSON = '{"a": 2, "b": 3}'

sums: list[int] = []
"""What ``add`` has returned; shows that every call of a script was really run."""


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    sums.append(a + b)
    return a + b


async def add_async(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    return add(a, b)


add_async.__name__ = "add"


@dataclass
class Script:
    """What a fake model plays.

    Attributes:
        calls: How often it calls the tool before it answers.
        stamps: CPU seconds of the process at each request to the model.
        peaks: Where memory is traced, the bytes a turn took at its peak, up to each request.
    """

    calls: int
    stamps: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    _held: int = 0

    def next_call(self) -> str | None:
        """The id of the call to make now; ``None`` when it is time to answer."""
        self.stamps.append(time.process_time())
        if tracemalloc.is_tracing():
            self.peaks.append(tracemalloc.get_traced_memory()[1] - self._held)
            tracemalloc.reset_peak()
            self._held = tracemalloc.get_traced_memory()[0]
        made = len(self.stamps)
        return f"call_{made}" if made <= self.calls else None


Prepare = Callable[[Script], Callable[[], object]]


def hermes_agent(script: Script, tool: Callable[..., Any] = add) -> Callable[[], object]:
    from hermes_agent import Agent, Limits
    from hermes_agent.testing import ScriptedModel

    def turns() -> Iterator[str]:
        while script.next_call() is not None:
            yield f'<tool_call>\n{{"name": "add", "arguments": {ARGUMENTS_JSON}}}\n</tool_call>'
        yield ANSWER

    agent = Agent(ScriptedModel(turns()), tools=[tool], limits=Limits(steps=None, tool_calls=None))
    return lambda: agent.run_sync("Add.").output


def hermes_agent_async(script: Script) -> Callable[[], object]:
    return hermes_agent(script, add_async)


def llm(script: Script) -> Callable[[], object]:
    import llm

    class Fake(llm.Model):
        model_id = "fake"
        supports_tools = True

        def execute(self, prompt: Any, stream: bool, response: Any, conversation: Any) -> Iterator[str]:
            call_id = script.next_call()
            if call_id is None:
                yield ANSWER
            else:
                response.add_tool_call(llm.ToolCall(name="add", arguments=dict(ARGUMENTS), tool_call_id=call_id))

    conversation = Fake().conversation(tools=[add])
    return lambda: conversation.chain("Add.", stream=False, chain_limit=0).text()


def smolagents(script: Script) -> Callable[[], object]:
    import smolagents
    from smolagents.models import ChatMessage, ChatMessageToolCall, ChatMessageToolCallFunction, MessageRole

    class Fake(smolagents.Model):
        def generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatMessage:
            call_id = script.next_call()
            if call_id is None:
                function = ChatMessageToolCallFunction(name="final_answer", arguments={"answer": ANSWER})
            else:
                function = ChatMessageToolCallFunction(name="add", arguments=dict(ARGUMENTS))
            call = ChatMessageToolCall(function=function, id=call_id or "answer", type="function")
            return ChatMessage(role=MessageRole.ASSISTANT, content="", tool_calls=[call])

    agent = smolagents.ToolCallingAgent(
        tools=[smolagents.tool(add)],
        model=Fake(model_id="fake"),
        max_steps=script.calls + 1,
        verbosity_level=smolagents.LogLevel.OFF,
    )
    return lambda: agent.run("Add.")


def pydantic_ai(script: Script) -> Callable[[], object]:
    from pydantic_ai import Agent, UsageLimits
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel

    def write(messages: Any, info: Any) -> ModelResponse:
        call_id = script.next_call()
        if call_id is None:
            return ModelResponse(parts=[TextPart(ANSWER)])
        return ModelResponse(parts=[ToolCallPart("add", ARGUMENTS_JSON, tool_call_id=call_id)])

    agent = Agent(FunctionModel(write), tools=[add])
    return lambda: agent.run_sync("Add.", usage_limits=UsageLimits(request_limit=None)).output


def openai_agents(script: Script) -> Callable[[], object]:
    import agents
    from agents.models.interface import Model
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    class Fake(Model):
        async def get_response(self, *args: Any, **kwargs: Any) -> agents.ModelResponse:
            call_id = script.next_call()
            return agents.ModelResponse(
                output=[answer if call_id is None else call(call_id)], usage=agents.Usage(), response_id=None
            )

        def stream_response(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError

    def call(call_id: str) -> ResponseFunctionToolCall:
        return ResponseFunctionToolCall(
            type="function_call", name="add", arguments=ARGUMENTS_JSON, call_id=call_id, id=call_id
        )

    text = ResponseOutputText(type="output_text", text=ANSWER, annotations=[])
    answer = ResponseOutputMessage(id="answer", type="message", role="assistant", status="completed", content=[text])
    agents.set_tracing_disabled(True)
    agent = agents.Agent(name="fake", model=Fake(), tools=[agents.function_tool(add)])
    return lambda: agents.Runner.run_sync(agent, "Add.", max_turns=script.calls + 1).final_output


def langgraph(script: Script) -> Callable[[], object]:
    import warnings

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration, ChatResult
    from langgraph.prebuilt import create_react_agent

    class Fake(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "fake"

        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
            return self

        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            call_id = script.next_call()
            if call_id is None:
                message = AIMessage(ANSWER)
            else:
                message = AIMessage("", tool_calls=[{"name": "add", "args": dict(ARGUMENTS), "id": call_id}])
            return ChatResult(generations=[ChatGeneration(message=message)])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has a successor in langchain, which runs on the same graph
        graph = create_react_agent(Fake(), [add])
    question = {"messages": [{"role": "user", "content": "Add."}]}
    config: Any = {"recursion_limit": 2 * script.calls + 2}
    return lambda: graph.invoke(question, config)["messages"][-1].content


LIBRARIES: dict[str, tuple[str, Prepare]] = {
    "hermes_agent": ("hermes-agent-sdk", hermes_agent),
    "hermes_agent, async def tool": ("hermes-agent-sdk", hermes_agent_async),
    "llm": ("llm", llm),
    "smolagents": ("smolagents", smolagents),
    "pydantic-ai": ("pydantic-ai-slim", pydantic_ai),
    "openai-agents": ("openai-agents", openai_agents),
    "langgraph": ("langgraph", langgraph),
}
"""Row of the table → the distribution it needs, and how its run is prepared."""
