"""instructor on an OpenAI-compatible server, one request a line on stdin: a process of its own, without this package.

Run as ``python instructor_worker.py URL MAX_TOKENS SLOTS``. A line is ``{"schema", "rows"}``, a row the messages of a
request; the answer on stdout is a list of ``{"output": …}`` or ``{"error": {"type", "message", "raw"}}``.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import instructor
from openai import OpenAI
from pydantic import BaseModel, ConfigDict, Field, create_model

TYPES: dict[str, Any] = {"string": str, "number": float, "integer": int, "boolean": bool}


def model_of(schema: dict[str, Any]) -> type[BaseModel]:
    """The schema as a user of instructor would write it: scalars and lists of them, keys by alias."""
    fields: dict[str, Any] = {}
    for key, member in schema["properties"].items():
        scalar = TYPES[(member["items"] if member["type"] == "array" else member)["type"]]
        kind: Any = list[scalar] if member["type"] == "array" else scalar
        required = key in schema.get("required", ())
        fields[key.replace("-", "_")] = (
            kind if required else kind | None,
            Field(alias=key) if required else Field(default=None, alias=key),
        )
    return create_model("Answer", __config__=ConfigDict(extra="forbid"), **fields)


def raw_of(error: Exception) -> str:
    """What the model wrote, where instructor tells."""
    completion: Any = getattr(error, "last_completion", None)
    return str(completion.choices[0].message.content or "") if completion is not None else ""


def main() -> None:
    url, tokens, slots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    client = instructor.from_openai(OpenAI(base_url=url, api_key="-"), mode=instructor.Mode.JSON_SCHEMA)
    models: dict[str, type[BaseModel]] = {}

    def ask(model: type[BaseModel], messages: Any) -> dict[str, Any]:
        try:
            made = client.create(
                model="embedded", messages=messages, response_model=model, max_retries=0, temperature=0.0,
                max_tokens=tokens,
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001  # whatever instructor raises is the row's error
            return {"error": {"type": type(error).__name__, "message": str(error)[:500], "raw": raw_of(error)}}
        return {"output": made.model_dump(by_alias=True, exclude_none=True)}

    with ThreadPoolExecutor(slots) as pool:
        for line in sys.stdin:
            asked = json.loads(line)
            key = json.dumps(asked["schema"], sort_keys=True)
            if key not in models:
                models[key] = model_of(asked["schema"])
            print(json.dumps(list(pool.map(partial(ask, models[key]), asked["rows"]))), flush=True)


if __name__ == "__main__":
    main()
