"""Does the grammar bite? A server is asked for a word that no model says by luck, in each field that might hold it.

Servers ignore fields they do not know and answer 200, so only the answer tells.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hermes_agent.models.servers import Form, Wire, filled

__all__ = ["Probe", "Seen", "bites", "question"]

Seen = Literal["enforced", "ignored", "refused", "unknown"]
"""What became of a grammar: the answer obeyed it; it did not; the request was turned down; it cannot be told."""

WORD = "zqx7"
PROBE_TOKENS = 32
RAW_PROMPT = "a"
RAW_MOST_TOKENS = 3  # the letter, a BOS, and one to spare; a chat template alone takes more
COUNTING = "Count from 1 to 9, with commas."
COUNTED = "1, 2, 3, 4, 5, 6,"


@dataclass(frozen=True, slots=True)
class Probe:
    """What was seen of a server and a model.

    Attributes:
        base_url: The server.
        model: What was asked for.
        served_model: What the server calls the model; empty if it does not say.
        forms: By wire and name of the form (`hermes_agent.models.servers.Form`), what became of a grammar in it.
        raw_completions: Whether completions take a prompt as it is; ``None`` if that could not be told.
        prefill: Whether the chat wire goes on behind a turn's beginning; ``None`` if that could not be told.
        reasoning_field: The field in which thoughts came back, if any did.
        context_length: Tokens of prompt and turn together, where the server says.
    """

    base_url: str
    model: str
    served_model: str = ""
    forms: Mapping[Wire, Mapping[str, Seen]] = field(default_factory=dict[Wire, Mapping[str, Seen]])
    raw_completions: bool | None = None
    prefill: bool | None = None
    reasoning_field: str | None = None
    context_length: int | None = None

    def seen(self, wire: Wire, form: Form) -> Seen:
        """What became of a form; ``"unknown"`` if it was not tried."""
        return self.forms.get(wire, {}).get(form.name, "unknown")


def question(form: Form) -> dict[str, Any]:
    """The fields that would make a server say the word."""
    grammar: Any
    match form.kind:
        case "lark":
            grammar = f'%llguidance {{}}\nstart: "{WORD}"\n'
        case "gbnf":
            grammar = f'root ::= "{WORD}"\n'
        case "regex":
            grammar = WORD
        case "json_schema":
            grammar = {
                "type": "object",
                "properties": {WORD: {"type": "string", "enum": [WORD]}},
                "required": [WORD],
                "additionalProperties": False,
            }
        case "structural_tag":
            grammar = {"type": "structural_tag", "format": {"type": "const_string", "value": WORD}}
    return filled(form, json.dumps(grammar) if form.as_text else grammar)


def bites(form: Form, answer: str) -> Seen:
    """What an answer, perhaps cut off, says of the fields that asked for it."""
    if form.kind != "json_schema":
        return "enforced" if answer.strip() == WORD else "ignored"
    # Where white space is free, a small model may not get any further than that.
    said, wanted = "".join(answer.split()), f'{{"{WORD}":"{WORD}"}}'
    if not said or not wanted.startswith(said):
        return "ignored"
    return "enforced" if WORD in said else "unknown"
