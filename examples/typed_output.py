"""Several tools and a typed answer, in one run."""

from typing import Literal

from pydantic import BaseModel, Field

from hermes_agent import Agent, Example
from hermes_agent.toolbox import clock


class Advice(BaseModel):
    """Whether to take a coat."""

    city: str = Field(max_length=40)
    coat: bool
    reason: Literal["cold", "mild", "warm"]


def get_weather(city: str) -> str:
    """Current weather.

    Args:
        city: City name, such as "Paris".
    """
    return f"{city}: 4 degrees, wind from the north"


agent = Agent(
    tools=[get_weather, clock],
    output=Advice,
    examples=[
        Example(
            "Do I need a coat in Rome?",
            calls=[("get_weather", {"city": "Rome"}, "Rome: 31 degrees, no wind")],
            answer='{"city": "Rome", "coat": false, "reason": "warm"}',
        ),
        Example(
            "Do I need a coat in Oslo?",
            calls=[("get_weather", {"city": "Oslo"}, "Oslo: -7 degrees, snow")],
            answer='{"city": "Oslo", "coat": true, "reason": "cold"}',
        ),
    ],
)

if __name__ == "__main__":
    result = agent.run_sync("Do I need a coat in Paris?")
    print(repr(result.output))
    for message in result.messages:
        print(message)
