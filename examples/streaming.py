"""Streaming to a terminal: text, calls and results as they come."""

from hermes_agent import Agent, Example
from hermes_agent.events import CallCompleted, StepFinished, TextDelta, ToolFinished
from hermes_agent.toolbox import calculator

agent = Agent(
    tools=[calculator],
    examples=[
        Example("What is 12 plus 30?", calls=[("calculator", {"expression": "12 + 30"}, "42")], answer="It is 42."),
        Example("How much is 9 * 8?", calls=[("calculator", {"expression": "9 * 8"}, "72")], answer="It is 72."),
    ],
)


async def main() -> None:
    """Ask one question and print everything that happens."""
    async with agent.stream("What is 17 times 23?") as stream:
        async for event in stream:
            match event:
                case TextDelta(text):
                    print(text, end="", flush=True)
                case CallCompleted(_, call):
                    print(f"call    {call.name}({call.arguments})")
                case ToolFinished(_, message, seconds):
                    print(f"result  {message.content}  ({seconds * 1000:.1f} ms)")
                case StepFinished(step, _, usage):
                    print(f"\n-- step {step}: {usage.input_tokens} tokens in, {usage.output_tokens} out")
                case _:
                    pass
    print(stream.result.usage)


if __name__ == "__main__":
    import anyio

    anyio.run(main)
