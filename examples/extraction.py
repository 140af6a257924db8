"""Extraction: texts in, pydantic models out, in the Hermes JSON mode; a job that can be stopped and goes on."""

import sys
from datetime import date

from pydantic import BaseModel, Field

from hermes_agent.extract import Extractor


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

extractor = Extractor(Invoice)

if __name__ == "__main__":
    if len(sys.argv) == 3:  # a file of rows, and where the values go
        print(extractor.map(sys.argv[1], out=sys.argv[2]))
    else:
        print(extractor.extract(TEXT).output.model_dump_json(indent=2))
