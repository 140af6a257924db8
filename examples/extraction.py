"""Extraction: a text in, a pydantic model out, in the Hermes JSON mode."""

from datetime import date

from pydantic import BaseModel, Field

from hermes_agent import Agent, Sampling


class Invoice(BaseModel):
    """What an invoice says."""

    number: str = Field(max_length=20)
    customer: str = Field(max_length=60)
    due: date
    total: float


TEXT = """INVOICE A-1042
Billed to: Nordlys Optics AS
Payment is due on 2026-03-15.
Total amount: 1890.50 EUR"""

agent = Agent(
    output=Invoice,
    instructions="Extract the invoice from the user's text.",
    sampling=Sampling(temperature=0.0),
)

if __name__ == "__main__":
    invoice = agent.run_sync(TEXT).output
    print(invoice.model_dump_json(indent=2))
