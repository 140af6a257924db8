"""Thinking on: the model writes a thought first, then calls a tool or answers; the thought is kept apart.

A model that was trained to think (Hermes 4, DeepHermes 3, Qwen3) makes something of it. The embedded model was not;
it shows that thought, calls and a typed answer go together.
"""

from hermes_agent import Agent, Limits, Reasoning, Sampling
from hermes_agent.events import ReasoningDelta
from hermes_agent.toolbox import calculator

agent = Agent(
    tools=[calculator],
    output=bool,
    instructions="Think in one short sentence, then answer true or false.",
    reasoning=Reasoning("on", max_tokens=60),
    sampling=Sampling(temperature=0.0, repetition_penalty=1.2),
    limits=Limits(turn_tokens=400, steps=6),
)


async def main() -> None:
    """Show the thought while it grows, then the answer."""
    async with agent.stream("Is 7 a prime number?") as stream:
        async for event in stream:
            if isinstance(event, ReasoningDelta):
                print(event.text, end="", flush=True)
    print("\nanswer:", stream.result.output)


if __name__ == "__main__":
    import anyio

    anyio.run(main)
