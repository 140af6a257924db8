"""JSON schemas made ready for the engine that masks tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hermes_agent.errors import GrammarError

__all__ = ["Prepared", "prepare"]

ENGINE_OPTIONS: Mapping[str, Any] = {
    "lenient": True,
    "coerce_one_of": True,
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
"""One line of JSON as `hermes_agent.formats.wire.dump_json` writes it; white space without bound would let a
small model run to its token limit. Lenient: what cannot be enforced is left to the validation."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A schema as the engine gets it.

    Attributes:
        text: The schema as JSON, with the engine's options.
        warnings: What the mask does not enforce and the validation must.
    """

    text: str
    warnings: tuple[str, ...] = ()


def prepare(schema: Mapping[str, Any] | bool, *, what: str = "the schema") -> Prepared:
    """Make a JSON schema ready for the engine.

    Args:
        schema: The schema; the order of its keys is the order the answer is written in.
        what: How an error names it.

    Raises:
        GrammarError: The schema is not JSON, or nothing satisfies it.
    """
    try:
        text = json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise GrammarError(
            f"{what} is not JSON: {error}", hint="a JSON schema holds None, bool, int, float, str, list and dict"
        ) from error
    return _prepared(text, what)


@lru_cache(maxsize=2048)
def _prepared(text: str, what: str) -> Prepared:
    schema = json.loads(text)
    if isinstance(schema, bool):
        schema = {} if schema else {"not": {}}
    return Prepared(json.dumps({"x-guidance": ENGINE_OPTIONS, **schema}))
