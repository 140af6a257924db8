"""Rows of a job that are settled, made up."""

from __future__ import annotations

import json

from hermes_agent.extract.row import Row, Settled


def value(position: int, content: object = 1, *, name: str | None = None) -> Settled:
    line = json.dumps({"id": str(position) if name is None else name, "output": content}, ensure_ascii=False)
    return Settled(position, Row(position, "", "t").digest, line, False, 10, 1)


def failure(position: int, kind: str = "InvalidOutputError", raw: str = "") -> Settled:
    error = {"type": kind, "message": "no", "raw": raw, "attempts": [raw]}
    return Settled(position, b"12345678", json.dumps({"id": str(position), "error": error}), True, 20, 2)
