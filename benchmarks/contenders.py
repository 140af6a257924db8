"""Five ways to take an object out of a text with the same small model, for `benchmarks.extraction`.

Each gets the same messages, writes greedily, and may write as many tokens as the others. None is shown its mistakes.
Each is given several rows at once, and works through them as its own documentation has it. Those in this process share
one set of weights, and none reads what another has left in its cache: each has its own.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import anyio

from hermes_agent.errors import HermesError
from hermes_agent.extract.extractor import INSTRUCTIONS, Extractor
from hermes_agent.formats.prompt import render
from hermes_agent.limits import Limits
from hermes_agent.messages import AssistantMessage, Message, SystemMessage, UserMessage
from hermes_agent.models import resolve
from hermes_agent.models.base import Model
from hermes_agent.models.embedded import ensure
from hermes_agent.models.int8 import quantise_decoding
from hermes_agent.models.local import LocalModel
from hermes_agent.models.slots import attend_by_row
from hermes_agent.output import JsonSchema, Output

__all__ = ["AT_ONCE", "Contender", "Instructor", "Ours", "Outlines", "Task", "Weights", "problems", "served"]

Examples = tuple[tuple[str, Any], ...]
AT_ONCE = 16
"""Rows that a contender is given together."""

INSTRUCTOR = Path(__file__).with_name("instructor_worker.py")


class Task:
    """A schema, and worked examples of it."""

    def __init__(self, schema: dict[str, Any], examples: Examples) -> None:
        self.schema, self.examples = schema, examples
        self.key = json.dumps(schema, sort_keys=True)

    def messages(self, text: str) -> list[dict[str, str]]:
        """The prompt for a text, as chat messages; the schema stands in the first, as our dialect writes it."""
        said: list[Message] = [SystemMessage(INSTRUCTIONS)]
        for example, gold in self.examples:
            said += [UserMessage(example), AssistantMessage(json.dumps(gold, ensure_ascii=False))]
        written = render([*said, UserMessage("\0")], dialect="chatml", output=Output.of(JsonSchema(self.schema)))
        found = re.findall(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>\n", written, re.DOTALL)
        return [{"role": role, "content": text if content == "\0" else content} for role, content in found]


class Weights:
    """The embedded model, loaded once."""

    @cached_property
    def model(self) -> Any:
        """The model of transformers, as `EmbeddedModel` loads it."""
        import torch
        from transformers import AutoModelForCausalLM

        model: Any = AutoModelForCausalLM.from_pretrained(ensure(), dtype=torch.float32, local_files_only=True)
        quantise_decoding(model)
        attend_by_row(model)
        return model.eval()

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(ensure(), local_files_only=True)

    def ours(self) -> LocalModel:
        """`EmbeddedModel` on them, with a cache of its own."""
        return LocalModel("embedded", dialect="chatml", batch_size=AT_ONCE, source=_Shared(self))


@dataclass(frozen=True, slots=True)
class _Shared:
    """Weights that are loaded once for several models."""

    weights: Weights
    writes_as_it_reads: bool = False

    def tokenizer(self) -> Any:
        return self.weights.tokenizer

    def model(self) -> Any:
        return self.weights.model


class Contender(Protocol):
    """One way to do it."""

    def take(self, task: Task, texts: Sequence[str]) -> list[dict[str, Any]]:
        """``{"output": …}`` of what it holds for valid, or ``{"error": …}`` with ``type``, ``message`` and ``raw``."""
        ...


class Ours:
    """`Extractor`, on any model; all rows at once, which the model bounds."""

    def __init__(self, model: Model, tokens: int, constrain: Literal["auto", "off"] = "auto") -> None:
        self._model, self._constrain = model, constrain
        self._limits = Limits(corrections=0, turn_tokens=tokens)
        self._extractors: dict[str, Extractor[Any]] = {}

    def take(self, task: Task, texts: Sequence[str]) -> list[dict[str, Any]]:
        """The objects in texts, or why there is none."""
        if task.key not in self._extractors:
            self._extractors[task.key] = Extractor(
                JsonSchema(task.schema), self._model, examples=task.examples, limits=self._limits,
                constrain=self._constrain, on_error="return",
            )  # fmt: skip
        extractor = self._extractors[task.key]
        lines: list[dict[str, Any]] = [{} for _ in texts]

        async def one(at: int) -> None:
            found = await extractor.extract_async(texts[at])
            lines[at] = {"output": found.output} if found.error is None else _failed(found.error, found.error.raw)

        async def all_of_them() -> None:
            async with anyio.create_task_group() as group:
                for at in range(len(texts)):
                    group.start_soon(one, at)

        anyio.run(all_of_them)
        return lines


class Outlines:
    """Outlines as its documentation shows it: a generator a schema, made once, its own choice of engine, batches."""

    def __init__(self, weights: Weights, tokens: int) -> None:
        import outlines

        self._outlines, self._tokens = outlines, tokens
        self._model = outlines.from_transformers(weights.model, weights.tokenizer)
        self._generators: dict[str, Any] = {}

    def take(self, task: Task, texts: Sequence[str]) -> list[dict[str, Any]]:
        """The objects in texts, or why there is none."""
        if task.key not in self._generators:
            schema = self._outlines.json_schema(json.dumps(task.schema))
            self._generators[task.key] = self._outlines.Generator(self._model, schema)
        chats = [self._outlines.inputs.Chat(task.messages(text)) for text in texts]
        written = self._generators[task.key].batch(chats, max_new_tokens=self._tokens, do_sample=False)
        return [_read(raw) for raw in ([written] if isinstance(written, str) else written)]


class Instructor:
    """instructor, in a process of its own that has it, on a server; a request for each of its slots."""

    def __init__(self, python: Path, url: str, tokens: int, slots: int) -> None:
        command = [str(python), str(INSTRUCTOR), url, str(tokens), str(slots)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def take(self, task: Task, texts: Sequence[str]) -> list[dict[str, Any]]:
        """The objects in texts, or why there is none."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process was started without its pipes")
        asked = {"schema": task.schema, "rows": [task.messages(text) for text in texts]}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answers: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return answers

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def served(url: str, tokens: int) -> Ours:
    """`Extractor`, on a llama.cpp server."""
    model = resolve(f"llamacpp:embedded@{url}")
    return Ours(model, tokens)


def _read(raw: str) -> dict[str, Any]:
    try:
        return {"output": json.loads(raw)}
    except ValueError as error:
        return _failed(error, raw)


def _failed(error: Exception, raw: str | None) -> dict[str, Any]:
    message = error.message if isinstance(error, HermesError) else str(error)
    return {"error": {"type": type(error).__name__, "message": message, "raw": raw or ""}}


def problems(schema: Mapping[str, Any], line: Mapping[str, Any]) -> list[str]:
    """What an independent validator has against an output that its contender holds for valid."""
    from jsonschema import Draft202012Validator

    if "output" not in line:
        return []
    return [error.message for error in Draft202012Validator(dict(schema)).iter_errors(line["output"])]
