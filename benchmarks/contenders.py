"""Five ways to take an object out of a text with the same small model, for `benchmarks.extraction`.

Each gets the same messages, writes greedily, and may write as many tokens as the others. None is shown its mistakes.
Those in this process share one set of weights, and none reads what another has left in its cache: each has its own.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

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
from hermes_agent.output import JsonSchema, Output

__all__ = ["Contender", "Instructor", "Ours", "Outlines", "Task", "Weights", "problems", "served"]

Examples = tuple[tuple[str, Any], ...]
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
        return model.eval()

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(ensure(), local_files_only=True)

    def ours(self) -> LocalModel:
        """A model of ours on them, with a cache of its own."""
        return LocalModel.from_objects(self.model, self.tokenizer, name="embedded", dialect="chatml")


class Contender(Protocol):
    """One way to do it."""

    def take(self, task: Task, text: str) -> dict[str, Any]:
        """``{"output": …}`` of what it holds for valid, or ``{"error": …}`` with ``type``, ``message`` and ``raw``."""
        ...


class Ours:
    """`Extractor`, on any model."""

    def __init__(self, model: Model, tokens: int, constrain: Literal["auto", "off"] = "auto") -> None:
        self._model, self._constrain = model, constrain
        self._limits = Limits(corrections=0, turn_tokens=tokens)
        self._extractors: dict[str, Extractor[Any]] = {}

    def take(self, task: Task, text: str) -> dict[str, Any]:
        """The object in a text, or why there is none."""
        if task.key not in self._extractors:
            self._extractors[task.key] = Extractor(
                JsonSchema(task.schema), self._model, examples=task.examples, limits=self._limits,
                constrain=self._constrain, on_error="return",
            )  # fmt: skip
        found = self._extractors[task.key].extract(text)
        return {"output": found.output} if found.error is None else _failed(found.error, found.error.raw)


class Outlines:
    """Outlines as its documentation shows it: a generator a schema, made once, and its own choice of engine."""

    def __init__(self, weights: Weights, tokens: int) -> None:
        import outlines

        self._outlines, self._tokens = outlines, tokens
        self._model = outlines.from_transformers(weights.model, weights.tokenizer)
        self._generators: dict[str, Any] = {}

    def take(self, task: Task, text: str) -> dict[str, Any]:
        """The object in a text, or why there is none."""
        if task.key not in self._generators:
            schema = self._outlines.json_schema(json.dumps(task.schema))
            self._generators[task.key] = self._outlines.Generator(self._model, schema)
        messages = self._outlines.inputs.Chat(task.messages(text))
        raw = self._generators[task.key](messages, max_new_tokens=self._tokens, do_sample=False)
        try:
            return {"output": json.loads(raw)}
        except ValueError as error:
            return _failed(error, raw)


class Instructor:
    """instructor, in a process of its own that has it, on a server."""

    def __init__(self, python: Path, url: str, tokens: int) -> None:
        command = [str(python), str(INSTRUCTOR), url, str(tokens)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def take(self, task: Task, text: str) -> dict[str, Any]:
        """The object in a text, or why there is none."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process was started without its pipes")
        self._process.stdin.write(json.dumps({"schema": task.schema, "messages": task.messages(text)}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def served(url: str, tokens: int) -> Ours:
    """`Extractor`, on a llama.cpp server."""
    model = resolve(f"llamacpp:embedded@{url}")
    return Ours(model, tokens)


def _failed(error: Exception, raw: str | None) -> dict[str, Any]:
    message = error.message if isinstance(error, HermesError) else str(error)
    return {"error": {"type": type(error).__name__, "message": message, "raw": raw or ""}}


def problems(schema: Mapping[str, Any], line: Mapping[str, Any]) -> list[str]:
    """What an independent validator has against an output that its contender holds for valid."""
    from jsonschema import Draft202012Validator

    if "output" not in line:
        return []
    return [error.message for error in Draft202012Validator(dict(schema)).iter_errors(line["output"])]
