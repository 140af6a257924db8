"""Any model object of Outlines, as one that writes Hermes turns.

We write the prompt and read the turn; the object generates, in its own way. Where it is a local model, Outlines'
logits processor gets the whole turn grammar; where it is a service, it gets the strongest output type that its type
adapter takes. Nothing of that was seen to bite by us, so turns count as ``"checked"``.
"""

# Outlines leaves parts of its signatures untyped; what we pass on has a type again.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import copy
import re
import sys
import threading
import warnings
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio

from hermes_agent.errors import (
    ContextLengthError,
    GrammarError,
    GuaranteeError,
    HermesError,
    ModelError,
    ModelUnavailableError,
)
from hermes_agent.formats.chat import chat_messages
from hermes_agent.formats.dialects import Dialect, guess_dialect
from hermes_agent.formats.dialects import dialect as named_dialect
from hermes_agent.formats.grammar import Tags, TurnGrammar
from hermes_agent.formats.prompt import render
from hermes_agent.formats.segments import instructed
from hermes_agent.models.base import Chunk, FinishReason, Guarantee, Request
from hermes_agent.models.outlines_settings import settings_of
from hermes_agent.models.permission import check_requests_allowed
from hermes_agent.models.thinking import ThoughtBudget, thought_budget
from hermes_agent.models.written import Stops

if TYPE_CHECKING:
    from outlines.models.base import AsyncModel, Model

__all__ = ["OutlinesModel"]

_T = TypeVar("_T")
_END = object()
_WAIT_SECONDS = 0.01
_KEEP_BUDGET = "keep the budget of a thought, Reasoning(max_tokens=…)"


class OutlinesModel:
    """Writes turns with a model object of Outlines. One turn at a time where the object is not async.

    Objects that take a raw prompt get ours; the others get chat messages with our system prompt in them. An object
    that cannot stream writes the turn in one piece, and is not stopped in the middle of it. No object of Outlines tells
    how many tokens it read and wrote, or whether it stopped because it came to the limit; in the budget of a thought,
    a piece of the stream counts as a token. A budget needs a raw prompt and a stream.

    Args:
        model: What ``outlines.from_llamacpp(...)``, ``from_mlxlm``, ``from_gemini`` and so on return.
        name: What it is called; by default what the object tells.
        dialect: How it is spoken to; ``None`` guesses from the model's name and its chat template.
        arguments: Passed on to every generation; they win over ours.
    """

    def __init__(
        self,
        model: Model | AsyncModel,
        *,
        name: str | None = None,
        dialect: Dialect | str | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        kind = type(model).__name__
        told, self._template = _described(model)
        self.name = name or f"outlines:{kind}" + (f"({told})" if told else "")
        self.dialect = named_dialect(dialect) if dialect else guess_dialect(told, chat_template=self._template)
        self._arguments = dict(arguments or {})
        self._kind = kind
        self._generating, self._raw = _taking_raw_prompts(model)
        self._busy = threading.Lock()
        self._backend: Any = None

    def __repr__(self) -> str:
        return f"OutlinesModel({type(self.model).__name__})"

    async def guarantee(self, grammar: TurnGrammar, *, prove: bool = False) -> Guarantee:
        """``"checked"``: whatever the object enforces, nobody has seen it.

        Raises:
            GuaranteeError: ``prove``.
        """
        if prove:
            raise GuaranteeError(
                f"{self.name!r} is driven by Outlines, and what it enforces cannot be proved",
                hint='use a transformers model, or a server by name, such as "vllm:model@http://host:8000/v1"',
            )
        return "checked"

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Write one turn.

        Raises:
            ContextLengthError: The object says that the prompt is too long.
            ModelError: The object fails, or cannot do what is asked.
        """
        check_requests_allowed(self)
        self._check(request)
        tags, limit = (self.dialect.think_open, self.dialect.think_close), request.max_tokens or sys.maxsize
        budget = None if request.reasoning.max_tokens is None else thought_budget(request, tags, limit)
        written = [request.prefix]
        stops = self._stops()
        async with aclosing(self._pieces(request, stops, budget)) as texts:
            async for text in texts:
                written.append(text)
                yield Chunk(text, thinking_tokens=0 if budget is None else budget.used)
        if budget is None or not budget.cut:
            yield Chunk(stops.rest(), "stop", thinking_tokens=0 if budget is None else budget.used)
            return
        closing = stops.rest() + budget.closing + self.dialect.think_separator
        yield Chunk(closing, thinking_tokens=budget.used)
        left = None if request.max_tokens is None else request.max_tokens - budget.used
        stops = self._stops()
        if left is None or left > 0:
            behind = None if request.grammar is None else request.grammar.after_thought()
            rest = replace(request, prefix="".join([*written, closing]), grammar=behind, max_tokens=left)
            async with aclosing(self._pieces(rest, stops, None)) as texts:
                async for text in texts:
                    yield Chunk(text, thinking_tokens=budget.used)
        finish: FinishReason = "length" if left is not None and left <= 0 else "stop"
        yield Chunk(stops.rest(), finish, thinking_tokens=budget.used, thought_cut=True)

    def _check(self, request: Request) -> None:
        """What needs a turn that can be taken up is refused before anything is written, or any tool is run."""
        reasoning = request.reasoning
        if self._raw or reasoning.mode == "off":
            return
        if reasoning.calls == "inline":
            raise self._cannot('answer calls inside thoughts, as Reasoning(calls="inline") wants')
        if reasoning.max_tokens is not None:
            raise self._cannot(_KEEP_BUDGET)

    def _cannot(self, what: str) -> ModelError:
        why = "cannot stream" if self._raw else "takes chat messages, and cannot go on behind the beginning of a turn"
        return ModelError(
            f"{self.name!r} cannot {what}: it {why}",
            hint='leave that out, or use a transformers model, or a server by name, such as "vllm:model@http://host/v1"',
        )

    def _stops(self) -> Stops:
        # Objects stop at tokens; not every stop is one.
        return Stops(self.dialect.stops if self._raw else ())

    async def _pieces(self, request: Request, stops: Stops, budget: ThoughtBudget | None) -> AsyncGenerator[str, None]:
        """What the object writes, up to a stop, or to where the budget ends the thought."""
        arguments = {**settings_of(self._kind, request, self.dialect, raw=self._raw), **self._arguments}
        pieces = self._in_loop if _is_async(self.model) else self._in_thread
        async with aclosing(pieces(request, arguments, budget)) as texts:
            async for text in texts:
                over = budget is not None and budget.push(text)
                if ready := stops.feed(text):
                    yield ready
                if stops.reached:
                    return
                if over and budget is not None:
                    budget.end()
                    return

    async def _in_loop(
        self, request: Request, arguments: dict[str, Any], budget: ThoughtBudget | None
    ) -> AsyncGenerator[str, None]:
        """What an async object writes."""
        model = cast("AsyncModel", self._generating)
        prompt, wanted = self._prompt(request), self._output_type(request.grammar)
        with _errors_of(self.name):
            try:
                streamed = cast("AsyncGenerator[object, None]", model.generate_stream(prompt, wanted, **arguments))
                async with aclosing(streamed) as stream:
                    async for piece in stream:
                        yield _text(piece)
            except NotImplementedError:
                if budget is not None:
                    raise self._cannot(_KEEP_BUDGET) from None
                yield _text(await model.generate(prompt, wanted, **arguments))

    async def _in_thread(
        self, request: Request, arguments: dict[str, Any], budget: ThoughtBudget | None
    ) -> AsyncGenerator[str, None]:
        """What an object that blocks writes: a call in a thread for each piece."""
        model, prompt = cast("Model", self._generating), self._prompt(request)
        threads = anyio.CapacityLimiter(1)

        async def call(function: Callable[[], _T]) -> _T:
            return await anyio.to_thread.run_sync(function, limiter=threads)

        while not self._busy.acquire(blocking=False):  # noqa: ASYNC110  # no event reaches from one loop into another
            await anyio.sleep(_WAIT_SECONDS)
        try:
            with _errors_of(self.name):
                wanted = await call(lambda: self._output_type(request.grammar))
                try:
                    stream = await call(lambda: model.generate_stream(prompt, wanted, **arguments))
                    piece = await call(lambda: next(stream, _END))
                except NotImplementedError:
                    if budget is not None:
                        raise self._cannot(_KEEP_BUDGET) from None
                    yield _text(await call(lambda: model.generate(prompt, wanted, **arguments)))
                    return
                try:
                    while piece is not _END:
                        yield _text(piece)
                        piece = await call(lambda: next(stream, _END))
                finally:
                    if callable(close := getattr(stream, "close", None)):
                        close()
        finally:
            self._busy.release()

    def _prompt(self, request: Request) -> Any:
        if self._raw:
            # The object's tokenizer puts the BOS in front of a prompt itself.
            spoken = self.dialect if self.dialect.chat_template else replace(self.dialect, bos="")
            shown = render(
                request.messages,
                dialect=spoken,
                tools=request.tools,
                output=request.output,
                reasoning=request.reasoning,
            )
            return shown + instructed(request.prefix, self.dialect)
        if request.prefix:
            raise ModelError(
                f"{self.name!r} takes chat messages, and cannot go on behind the beginning of a turn",
                hint='use Reasoning(calls="ignore"), or a model that takes raw prompts',
            )
        from outlines.inputs import Chat

        messages: list[dict[str, Any]] = [
            *chat_messages(
                request.messages,
                dialect=self.dialect,
                tools=request.tools,
                output=request.output,
                reasoning=request.reasoning,
            )
        ]
        return Chat(messages)

    def _output_type(self, grammar: TurnGrammar | None) -> Any:
        """The strongest output type that the object takes for this grammar; ``None`` if it takes none."""
        if grammar is None:
            return None
        from outlines.models import MLXLM, LlamaCpp, Transformers

        if isinstance(self.model, LlamaCpp | MLXLM | Transformers):
            self._backend = self._backend or _backend_of(self.model, self.dialect)
            return self._backend.get_cfg_logits_processor(grammar.lark(_tags(self.model, self.dialect)))
        adapter: Any = getattr(self.model, "type_adapter", None)
        return next((wanted for wanted in _output_types(grammar, self.dialect) if _takes(adapter, wanted)), None)


def _backend_of(model: Any, dialect: Dialect) -> Any:
    """Outlines' backend for the object, to be kept: making one reads the whole vocabulary."""
    from outlines.backends.llguidance import LLGuidanceBackend
    from outlines.models import Transformers

    if not isinstance(model, Transformers):
        return LLGuidanceBackend(model)
    from hermes_agent.models.checkpoint import stops_of
    from hermes_agent.models.mask import TurnBackend

    stop_ids, _ = stops_of(model.model, model.hf_tokenizer, dialect)
    width = model.model.config.get_text_config().vocab_size
    return TurnBackend(model.model, model.hf_tokenizer, vocab_size=width, stop_ids=stop_ids)


def _output_types(grammar: TurnGrammar, dialect: Dialect) -> Iterator[Any]:
    """The forms a turn grammar has in Outlines, strongest first."""
    from outlines.types import CFG, JsonSchema, Regex

    def form(write: Callable[[], Any], wrap: Callable[[Any], Any]) -> Any:
        try:
            found = write()
            return None if found is None else wrap(found)
        except (GrammarError, ValueError):  # Outlines checks schemas by an older draft than ours
            return None

    forms = (
        form(lambda: grammar.gbnf(Tags.text(dialect)), CFG),
        # With tools, calls would be bare JSON, which is also what a typed answer looks like.
        form(lambda: None if grammar.tools else grammar.json_schema(), JsonSchema),
        form(grammar.regex, Regex),
    )
    return (found for found in forms if found is not None)


def _takes(adapter: Any, wanted: Any) -> bool:
    """Whether a type adapter can say an output type; all of them raise if not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SGLang's asks for EBNF, which is what it gets
            adapter.format_output_type(wanted)
    except Exception:  # noqa: BLE001  # each adapter refuses in its own way
        return False
    return True


def _tags(model: Any, dialect: Dialect) -> Tags:
    """The tags as the object's tokenizer spells them; as a string, one that is a token would fail silently."""
    tokenizer = model.tokenizer
    if hasattr(inner := getattr(tokenizer, "tokenizer", None), "added_tokens_decoder"):
        return Tags.of(inner, dialect)
    plain, known = Tags.text(dialect), tokenizer.vocabulary
    names = ("call_open", "call_close", "think_open", "think_close")
    return replace(plain, **{name: known.get(getattr(plain, name), getattr(plain, name)) for name in names})


def _taking_raw_prompts(model: Any) -> tuple[Any, bool]:
    """The object as it takes prompts best, and whether it takes raw ones."""
    adapter: Any = getattr(model, "type_adapter", None)
    if hasattr(adapter, "has_chat_template"):
        # It would take our prompt for something a user says. A shallow copy that does not shares all weights.
        plain, plain.type_adapter = copy.copy(model), copy.copy(adapter)
        plain.type_adapter.has_chat_template = False
        return plain, True
    from outlines.inputs import Chat

    try:
        adapter.format_input(Chat([{"role": "user", "content": "Hi"}]))
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return model, True
    return model, False


def _is_async(model: object) -> bool:
    from outlines.models.base import AsyncModel

    return isinstance(model, AsyncModel)


def _described(model: Any) -> tuple[str, str | None]:
    """What an object tells of its model: a name, and the chat template."""
    metadata: Any = getattr(getattr(model, "model", None), "metadata", None)  # of a GGUF file
    if isinstance(metadata, Mapping):
        found = cast("Mapping[str, Any]", metadata)
        return str(found.get("general.name", "")), found.get("tokenizer.chat_template")
    tokenizer: Any = next(
        (t for name in ("hf_tokenizer", "mlx_tokenizer", "tokenizer") if (t := getattr(model, name, None))), None
    )
    name: object = getattr(model, "model_name", None) or getattr(tokenizer, "name_or_path", None)
    template: object = getattr(tokenizer, "chat_template", None)
    return name if isinstance(name, str) else "", template if isinstance(template, str) else None


def _text(piece: object) -> str:
    """One piece; of several samples the first."""
    if isinstance(piece, list):
        piece = cast("list[object]", piece)[0]
    return piece if isinstance(piece, str) else "" if piece is None else str(piece)


@contextmanager
def _errors_of(name: str) -> Generator[None]:
    """Whatever an object raises becomes an error of ours."""
    try:
        yield
    except HermesError:
        raise
    except Exception as error:
        raise _as_ours(name, error) from error


def _as_ours(name: str, error: Exception) -> ModelError:
    from outlines import exceptions as theirs

    said = str(error)
    if re.search(r"context (?:window|length)|too many tokens|maximum context|prompt is too long", said, re.IGNORECASE):
        return ContextLengthError(
            f"the prompt does not fit {name!r}: {said}",
            hint="shorten the conversation or the tool results, or choose a model with a longer context",
        )
    refused = isinstance(error, theirs.BadRequestError | theirs.GenerationError | theirs.ProviderResponseError)
    if isinstance(error, ImportError | OSError) or (isinstance(error, theirs.APIError) and not refused):
        hint = getattr(error, "hint", "") or "see the error's cause"
        return ModelUnavailableError(f"{name!r} cannot be reached: {said or repr(error)}", hint=hint)
    return ModelError(f"{name!r} failed: {said or repr(error)}", hint="see the error's cause, which Outlines raised")
