"""Structured extraction with what is worth keeping kept: prompt, compiled grammar, settings."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from copy import copy
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, cast, overload

from typing_extensions import TypeForm, TypeVar, Unpack

from hermes_agent.agent import Agent
from hermes_agent.blocking import waited_for
from hermes_agent.context import Retry, RunContext
from hermes_agent.errors import ConfigurationError, HermesError, ModelError, RunError
from hermes_agent.extract.given import (
    OnError,
    check_apart,
    check_on_error,
    check_text,
    example_of,
    nothing_there,
    output_of,
)
from hermes_agent.extract.one import Settings
from hermes_agent.extract.result import Extraction
from hermes_agent.json_text import dump_json
from hermes_agent.limits import NOTHING, Limits, Usage
from hermes_agent.models.base import Constrain, Model, ModelLike
from hermes_agent.output import JsonSchema, Output
from hermes_agent.reasoning import Mode, Reasoning
from hermes_agent.record import TurnWritten
from hermes_agent.sampling import Sampling
from hermes_agent.stream import RunStream
from hermes_agent.validators import OutputValidator

if TYPE_CHECKING:
    from hermes_agent.extract.chunks import Chunking
    from hermes_agent.extract.coverage import Coverage
    from hermes_agent.extract.engine import Engine
    from hermes_agent.extract.inputs import RowSource
    from hermes_agent.extract.job import Job, JobSummary
    from hermes_agent.extract.progress import Progress

__all__ = ["Extractor"]

T = TypeVar("T")
AnyT = TypeVar("AnyT")
INSTRUCTIONS = "Take the answer out of the text that the user gives. Use only what the text says."


class Extractor(Generic[T]):
    """Takes values of one type out of texts. Building one touches no network and loads no weights.

    Args:
        output: The type of the value: anything pydantic knows, a JSON schema, or what `infer` makes of samples.
        model: As for `hermes_agent.Agent`.
        instructions: What the model is told before every text; ``None`` tells it the schema alone.
        examples: Worked texts, each with the value that is right for it; small models need one or two.
        reasoning: ``"off"``, ``"on"``, ``"auto"``, or a `Reasoning`.
        sampling: How tokens are drawn; by default the likeliest is taken.
        limits: What one text may cost; ``corrections`` is how often the model is shown what is wrong.
        constrain: ``"auto"`` enforces what the model can; ``"strict"`` refuses to run unless the grammar is
            enforced; ``"off"`` only validates afterwards.
        validators: Functions that check the value beyond its type, as for `hermes_agent.Agent`.
        on_error: ``"raise"`` what went wrong with a text, or ``"return"`` it in the `Extraction`.
        chunking: How texts are split that are too long for one prompt; ``None`` never splits.
        evidence: Say where in the text each value stands.

    Raises:
        ConfigurationError: The type cannot be extracted, or an example does not fit it.

    Example:
        >>> from pydantic import BaseModel
        >>> from hermes_agent.extract import Extractor
        >>> from hermes_agent.testing import ScriptedModel
        >>> class Invoice(BaseModel):
        ...     total: float
        >>> Extractor(Invoice, ScriptedModel(['{"total": 12.5}'])).extract("Total due: 12.50 EUR").output
        Invoice(total=12.5)
    """

    @overload
    def __init__(
        self: Extractor[Any],
        output: JsonSchema | Mapping[str, Any],
        model: ModelLike | None = ...,
        *,
        on_error: OnError = ...,
        evidence: bool = ...,
        **settings: Unpack[Settings],
    ) -> None: ...
    @overload
    def __init__(
        self: Extractor[AnyT],
        output: TypeForm[AnyT],
        model: ModelLike | None = ...,
        *,
        on_error: OnError = ...,
        evidence: bool = ...,
        **settings: Unpack[Settings],
    ) -> None: ...
    def __init__(
        self,
        output: Any,
        model: ModelLike | None = None,
        *,
        instructions: str | None = INSTRUCTIONS,
        examples: Iterable[tuple[str, Any]] = (),
        reasoning: Reasoning | Mode | bool = "off",
        sampling: Sampling = Sampling(temperature=0.0),
        limits: Limits = Limits(corrections=2),
        constrain: Constrain = "auto",
        validators: Iterable[OutputValidator] = (),
        on_error: OnError = "raise",
        chunking: Chunking | None = None,
        evidence: bool = False,
    ) -> None:
        check_on_error(on_error)
        self.output: Output[T] = output_of(output)
        worked, checks = tuple(examples), tuple(validators)
        make = cast("Callable[..., Agent[None, T]]", Agent)  # of a type that stands in `output`, which no overload says
        self._agent_of = partial(
            make,
            examples=[example_of(self.output, text, value) for text, value in worked],
            reasoning=reasoning,
            sampling=sampling,
            limits=limits,
            constrain=constrain,
            name="extractor",
        )
        self._instructions = instructions
        self._agent = self._agent_of(model, output=self.output, instructions=instructions, validators=checks)
        self._on_error = on_error
        self._chunking, self._evidence = chunking, evidence
        self._made_of: Mapping[str, Any] | None = {
            "output": output,
            "model": model,
            "instructions": instructions,
            "examples": worked,
            "reasoning": reasoning,
            "sampling": sampling,
            "limits": limits,
            "constrain": constrain,
            "validators": checks,
            "on_error": on_error,
            "chunking": chunking,
            "evidence": evidence,
        }

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        """It crosses processes by what it was made of, so a named model is loaded where it arrives.

        Raises:
            ConfigurationError: Its model is an object that cannot.
        """
        if self._made_of is None:
            raise ConfigurationError(
                f"an extractor made by asking_for({self.output.name!r}) cannot be pickled",
                hint="pickle the one that it was made from",
            )
        model: object = self._made_of["model"]
        if model is None:  # what that means here
            model = os.environ.get("HERMES_SDK_MODEL") or "embedded"
        return _made_again, (type(self), {**self._made_of, "model": model})

    @property
    def model(self) -> Model:
        """The model that is asked; a named one is looked up on first use."""
        return self._agent.model

    @cached_property
    def coverage(self) -> Coverage:
        """Which keywords of the schema a mask enforces token by token, and which only the validation holds."""
        from hermes_agent.extract.coverage import coverage

        return coverage(self.output.schema or {})

    @cached_property
    def fingerprint(self) -> str:
        """What a result depends on besides the text and the model: schema, prompt, thinking, sampling, evidence."""
        plan, _ = self._agent.party()
        told = [repr(message) for message in plan.opening]
        schema = plan.output.pattern if plan.output.schema is None else dump_json(plan.output.schema)
        settled = [*told, str(schema), repr(plan.reasoning), repr(plan.sampling), plan.constrain, repr(self._chunking)]
        settled += ["evidence"] if self._evidence else []
        return hashlib.blake2b("\0".join(settled).encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()

    def extract(self, text: str) -> Extraction[T]:
        """Take the value out of a text.

        Returns:
            The value, what it cost, and, with ``on_error="return"``, perhaps an error in its place.

        Raises:
            InvalidOutputError: The model's answers stayed invalid; ``attempts`` holds them.
            ModelError: The model could not write.
            ConfigurationError: An event loop is running: `extract_async` is for there.
        """
        return waited_for(partial(self.extract_async, text), called="extract()", instead="extract_async(...)")

    async def extract_async(self, text: str, *, on_error: OnError | None = None) -> Extraction[T]:
        """`extract`, awaited.

        Args:
            text: The text.
            on_error: Instead of the extractor's own.
        """
        check_text(text)
        if self._chunking is None:
            found = await self.extract_whole(text)
        else:
            from hermes_agent.extract.chunks import extract_in_chunks

            found = await extract_in_chunks(self, self._chunking, text)
        if self._evidence and found.error is None:
            from hermes_agent.extract.evidence import with_evidence

            found = with_evidence(found, self.output, text)
        if found.error is not None and (on_error or self._on_error) == "raise":
            raise found.error
        return found

    async def extract_whole(self, text: str) -> Extraction[T]:
        """Take the value out of a text in one prompt; what went wrong with it is in the result, not raised."""
        if not text.strip():
            return Extraction(None, nothing_there(text), NOTHING, None, 0)
        try:
            result = await self._agent.run(text)
        except (RunError, ModelError) as error:
            return Extraction(None, error, _used(error), None, len(error.attempts))
        return Extraction(result.output, None, result.usage, result.guarantee, len(result.turns))

    def asking_for(self, output: Output[AnyT], told: str) -> Extractor[AnyT]:
        """The same model, prompt and settings for another type; without validators, and never in pieces.

        Args:
            output: The type; the examples must fit it.
            told: What the model is told besides.
        """
        other = cast("Extractor[AnyT]", copy(self))
        other.output = output
        instructions = "\n".join(text for text in (self._instructions, told) if text)
        make = cast("Callable[..., Agent[None, AnyT]]", self._agent_of)
        other._agent = make(self.model, output=output, instructions=instructions)
        other._on_error, other._chunking, other._evidence = "return", None, False
        other._made_of = None
        for derived in ("coverage", "fingerprint"):  # of the type and prompt that it was copied with
            other.__dict__.pop(derived, None)
        return other

    async def accept(self, text: str) -> T:
        """The value of an answer that no single prompt gave: read, and checked by the validators.

        Raises:
            OutputError: It is not of the type.
            Retry: A validator said no, or raised ``ValueError``.
        """
        plan, model = self._agent.party()
        value = self.output.validate(text)
        for validator in plan.validators:
            try:
                value = await validator.check(value, RunContext(deps=None, agent=plan.name, model=model.name))
            except ValueError as error:
                raise Retry(str(error)) from error
        return value

    def map(
        self,
        rows: RowSource,
        *,
        out: str | Path,
        text: str | None = None,
        id: str | None = None,  # noqa: A002  # as the column is called
        resume: bool = True,
        on_change: Literal["refuse", "restart"] = "refuse",
        retry: bool = False,
        concurrency: int | None = None,
        engine: Literal["local", "ray"] | Engine = "local",
        progress: bool | Progress | None = None,
    ) -> JobSummary:
        """Take a value out of each row, once, whatever happens to this process: run it again and it goes on.

        A row that has no valid value is kept with its error beside the others; it never ends the job.

        Args:
            rows: A file (JSONL, CSV, Parquet), a folder of text files, or an iterable of texts or mappings, in the
                same order each time.
            out: A ``.jsonl``, ``.parquet`` or ``.sqlite`` file, in the order of the input.
            text: The column that holds the text; by default ``"text"``.
            id: The column that rows are called by; by default ``"id"`` if there is one, else their position.
            resume: Go on with what an earlier run has left; ``False`` begins anew and forgets that.
            on_change: When schema, prompt or model are others than in the earlier run: ``"refuse"``, or ``"restart"``.
            retry: Ask for the failed rows of earlier runs again.
            concurrency: Rows at once; ``None`` follows the model, as much as a server bears. On Ray: workers.
            engine: ``"local"``, or ``"ray"`` for workers on more than one machine (needs the extra ``ray``).
            progress: Show a bar; by default on a terminal.

        Raises:
            JobError: Schema, prompt, model or input have changed, the output is somebody else's, another process
                runs the job, or the disk is full. What is settled is kept.
            ModelError: The model cannot be had, or fails for row after row. What is settled is kept.
            ConfigurationError: The input or the output is of no known kind, or an event loop is running.
        """
        job = self._job(rows, out, text, id, resume, on_change, retry, concurrency, engine, progress)
        return waited_for(job.run, called="map()", instead="map_async(...)")

    async def map_async(
        self,
        rows: RowSource,
        *,
        out: str | Path,
        text: str | None = None,
        id: str | None = None,  # noqa: A002  # as the column is called
        resume: bool = True,
        on_change: Literal["refuse", "restart"] = "refuse",
        retry: bool = False,
        concurrency: int | None = None,
        engine: Literal["local", "ray"] | Engine = "local",
        progress: bool | Progress | None = None,
    ) -> JobSummary:
        """`map`, awaited. Arguments and errors are the same."""
        return await self._job(rows, out, text, id, resume, on_change, retry, concurrency, engine, progress).run()

    def _job(
        self,
        rows: RowSource,
        out: str | Path,
        text: str | None,
        id: str | None,  # noqa: A002
        resume: bool,
        on_change: Literal["refuse", "restart"],
        retry: bool,
        concurrency: int | None,
        engine: Literal["local", "ray"] | Engine,
        progress: bool | Progress | None,
    ) -> Job:
        from hermes_agent.extract.engine import engine_of
        from hermes_agent.extract.inputs import read_rows
        from hermes_agent.extract.job import Job
        from hermes_agent.extract.progress import progress_of

        if isinstance(rows, str | Path):
            check_apart(Path(rows), Path(out))
        read = read_rows(rows, text=text, id=id)
        return Job(
            self,
            read,
            Path(out),
            engine=engine_of(engine, concurrency),
            resume=resume,
            on_change=on_change,
            retry=retry,
            progress=progress_of(progress, rows=read),
        )

    @asynccontextmanager
    async def stream(self, text: str) -> AsyncGenerator[RunStream[T]]:
        """`extract_async`, watched: ``partials()`` gives the value as it grows, ``items()`` those of a list.

        The text is one prompt, however long it is, and what goes wrong is raised: ``chunking``, ``evidence`` and
        ``on_error`` are for `extract`.

        Raises:
            InvalidOutputError: There is no text, or the model's answers stayed invalid.

        Example:
            >>> async def show(extractor, text):
            ...     async with extractor.stream(text) as stream:
            ...         async for partial in stream.partials():
            ...             print(partial)
            ...     return stream.result.output
        """
        check_text(text)
        if not text.strip():
            raise nothing_there(text)
        async with self._agent.stream(text) as stream:
            yield stream


def _made_again(kind: Callable[..., object], made_of: Mapping[str, Any]) -> object:
    return kind(**made_of)


def _used(error: HermesError) -> Usage:
    """What a failed run has cost."""
    records = error.records.get(error.run_id, ())
    return sum((record.usage for record in records if isinstance(record, TurnWritten)), NOTHING)
