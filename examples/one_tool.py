"""One tool: a typed Python function becomes something the model can call."""

from hermes_agent import Agent, Example


def multiply(a: int, b: int) -> int:
    """Multiply two whole numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    return a * b


agent = Agent(
    tools=[multiply],
    examples=[Example("What is 3 times 4?", calls=[("multiply", {"a": 3, "b": 4}, "12")], answer="3 times 4 is 12.")],
)

if __name__ == "__main__":
    result = agent.run_sync("What is 17 times 23?")
    print(result.output)
    print(f"{result.usage.steps} steps, guarantee: {result.guarantee}")
