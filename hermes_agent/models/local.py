"""Open weights in this process: transformers runs them, our grammar masks every token.

Prompts come from the checkpoint's own chat template where it renders tools, else from the dialect. Either way other
people's text is tokenised so that it cannot become markup.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from hermes_agent.errors import ContextLengthError, ModelError, ModelUnavailableError
from hermes_agent.formats.dialects import Dialect, guess_dialect
from hermes_agent.formats.dialects import dialect as named_dialect
from hermes_agent.formats.grammar import Tags, TurnGrammar
from hermes_agent.formats.prompt import Segment, render_segments, template_segments, template_switches
from hermes_agent.models.base import Chunk, Guarantee, Request
from hermes_agent.sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from hermes_agent.models.decoding import Decoder, Written
    from hermes_agent.models.mask import TurnBackend, TurnProcessor

__all__ = ["LocalModel", "Source", "missing_extra"]

_T = TypeVar("_T")
_WAIT_SECONDS = 0.01
_NO_LIMIT = 10**9
"""Tokenizers without a limit say 10**30."""


def missing_extra(error: ImportError) -> ModelUnavailableError:
    """The error for a model that needs packages which are not installed."""
    return ModelUnavailableError(
        f"running a model here needs the package {error.name or str(error)!r}, which is not installed",
        hint='pip install "hermes-agent-sdk[local]"' + (" peft" if error.name == "peft" else ""),
    )


class Source(Protocol):
    """Where a tokenizer and weights come from. Called once each, in whatever thread needs them first."""

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer."""
        ...

    def model(self) -> PreTrainedModel:
        """Load the weights."""
        ...


class LocalModel:
    """A causal language model on this machine. Nothing is loaded before it is needed.

    Args:
        model_id: A hub id, such as ``"NousResearch/Hermes-4-14B"``, or a folder.
        dialect: How it is spoken to; a name or a `Dialect` makes our renderer write the prompt. ``None``
            guesses, and uses the checkpoint's own chat template if that renders tools.
        chat_template: A Jinja chat template to use instead of the checkpoint's.
        adapter: A LoRA adapter for peft: a hub id or a folder.
        device_map: Where the weights go, as transformers takes it.
        dtype: What they are loaded as: ``"auto"`` as saved, or such as ``"bfloat16"``.
        quantization_config: A quantisation config of transformers.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Run code that the checkpoint brings along.
        local_files_only: Never contact the hub.
        context_length: Tokens of prompt and turn together; ``None`` asks the checkpoint.
        reuse_prefix: Read only what is new when a prompt starts like the last one did.
        source: Loads tokenizer and weights in another way; the loading arguments above are unused then.

    Example:
        >>> LocalModel("NousResearch/Hermes-4-14B", dtype="bfloat16").name
        'hf:NousResearch/Hermes-4-14B'
    """

    def __init__(
        self,
        model_id: str | Path,
        *,
        dialect: Dialect | str | None = None,
        chat_template: str | None = None,
        adapter: str | Path | None = None,
        device_map: str | Mapping[str, int | str] | None = "auto",
        dtype: str = "auto",
        quantization_config: object | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        local_files_only: bool = False,
        context_length: int | None = None,
        reuse_prefix: bool = True,
        source: Source | None = None,
    ) -> None:
        self._id = str(model_id)
        self._source = source or _Checkpoint(
            self._id,
            adapter=None if adapter is None else str(adapter),
            device_map=device_map,
            dtype=dtype,
            quantization_config=quantization_config,
            revision=revision,
            trust_remote_code=trust_remote_code,
            local_files_only=local_files_only,
        )
        self._has_source = source is not None
        self._asked_dialect = None if dialect is None else named_dialect(dialect)
        self._asked_template = chat_template
        self._asked_length = context_length
        self._reuse_prefix = reuse_prefix
        self._loading = threading.RLock()
        self._busy = threading.Lock()
        self._queue: RunVar[anyio.Semaphore] = RunVar("queue")
        self._loaded: _Loaded | None = None

    @classmethod
    def from_objects(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str | None = None,
        dialect: Dialect | str | None = None,
        chat_template: str | None = None,
        context_length: int | None = None,
        reuse_prefix: bool = True,
    ) -> LocalModel:
        """A model that is loaded already, however that was done.

        Args:
            model: A causal language model of transformers; from an Outlines model take its ``.model``.
            tokenizer: Its fast tokenizer; from an Outlines model take its ``.hf_tokenizer``.
            name: What it is called; by default what its config calls it.
            dialect: As for the class, and so are the others.
        """
        return cls(
            name or str(model.config.name_or_path) or type(model).__name__,
            dialect=dialect,
            chat_template=chat_template,
            context_length=context_length,
            reuse_prefix=reuse_prefix,
            source=_Objects(model, tokenizer),
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._id!r})"

    @property
    def name(self) -> str:
        """The name as a user would write it."""
        return self._id if self._has_source else f"hf:{self._id}"

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        with self._loading:
            return _available(self._source.tokenizer, self.name)

    @cached_property
    def dialect(self) -> Dialect:
        """How the model is spoken to. May load the tokenizer."""
        if self._asked_dialect is not None:
            return self._asked_dialect
        with self._loading:
            tokenizer = self._tokenizer
            ids = tokenizer("a").input_ids
            bos = tokenizer.bos_token if ids and ids[0] == tokenizer.bos_token_id else None
            return guess_dialect(
                self._id, chat_template=self._asked_template or _template_of(tokenizer), bos=str(bos or "")
            )

    def guarantee(self, grammar: TurnGrammar) -> Guarantee:
        """Every token is masked here."""
        del grammar
        return "token"

    @property
    def prefilled_tokens(self) -> int:
        """Prompt tokens read so far; what was reused from the turn before is not among them."""
        return self._loaded.decoder.prefilled if self._loaded else 0

    @property
    def decoded_tokens(self) -> int:
        """Tokens written so far, over all turns."""
        return self._loaded.decoder.decoded if self._loaded else 0

    @property
    def compiled_grammars(self) -> int:
        """How often a grammar was compiled; one that is still known is not compiled again."""
        return self._loaded.backend.compiled if self._loaded else 0

    def load(self) -> None:
        """Load tokenizer and weights now, in this thread, and warm them up.

        Raises:
            ModelUnavailableError: A package, the checkpoint or the network is missing.
        """
        with self._loading:
            if self._loaded is None:
                self._loaded = _available(lambda: _Loaded.of(self), self.name)

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Write one turn. One turn is written at a time; others wait their turn.

        Raises:
            ContextLengthError: The prompt leaves no room to write.
            ModelError: The model cannot be loaded, or fails.
        """
        # A thread of its own, so that slow tools in the shared ones never hold up the model.
        threads = anyio.CapacityLimiter(1)
        if self._loaded is None:
            await anyio.to_thread.run_sync(self.load, limiter=threads)
        async with self._turn_queue():
            while not self._busy.acquire(blocking=False):  # somebody in another event loop is writing
                await anyio.sleep(_WAIT_SECONDS)
            try:
                assert self._loaded is not None
                turn = await anyio.to_thread.run_sync(self._loaded.start, request, limiter=threads)
                last: Written | None = None
                # Each step is one call, so a cancelled or closed turn costs one token more at most.
                while (step := await anyio.to_thread.run_sync(next, turn.steps, None, limiter=threads)) is not None:
                    last = step
                    if step.text and step.finish_reason is None:
                        yield Chunk(step.text)
                assert last is not None
                yield Chunk(last.text, last.finish_reason, turn.prompt_tokens, last.tokens)
            finally:
                self._busy.release()

    def _turn_queue(self) -> anyio.Semaphore:
        """First come, first served within an event loop. A semaphore, as a generator may be closed by another task."""
        queue = self._queue.get(None)
        if queue is None:
            queue = anyio.Semaphore(1)
            self._queue.set(queue)
        return queue

    def _segments(self, request: Request) -> list[Segment]:
        """The prompt, by the checkpoint's template or by ours."""
        template = self._asked_template
        if template is None and self._asked_dialect is None:
            template = _template_of(self._tokenizer)
            if "tools" not in template:
                template = None
        if template is None:
            return render_segments(
                request.messages,
                dialect=self.dialect,
                tools=request.tools,
                output=request.output,
                reasoning=request.reasoning,
            )
        switches = template_switches(request.reasoning)

        def apply(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
            from jinja2 import TemplateError

            try:
                text = self._tokenizer.apply_chat_template(
                    messages, tools=tools or None, tokenize=False, add_generation_prompt=True,
                    chat_template=template, **switches,
                )  # fmt: skip
            except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
                raise ModelError(
                    f"the chat template of {self.name!r} failed: {error!r}",
                    hint='let our renderer write the prompt: dialect="chatml", or the name of another dialect',
                    raw=template,
                ) from error
            # Some templates write the opening tag themselves; here the model does, so that the turn is whole.
            return str(text).removesuffix("\n").removesuffix(self.dialect.think_open) if _thinks(str(text)) else text

        def _thinks(text: str) -> bool:
            return text.rstrip("\n").endswith(self.dialect.think_open)

        return template_segments(
            request.messages,
            apply,
            template=template,
            dialect=self.dialect,
            tools=request.tools,
            output=request.output,
            reasoning=request.reasoning,
        )


@dataclass(frozen=True, slots=True)
class _Turn:
    prompt_tokens: int
    steps: Iterator[Written]


@dataclass(frozen=True, slots=True)
class _Loaded:
    """Everything that exists once the weights are there."""

    owner: LocalModel
    tokenizer: PreTrainedTokenizerBase
    backend: TurnBackend
    decoder: Decoder
    tags: Tags
    stop_strings: tuple[str, ...]
    context_length: int
    defaults: Sampling

    @classmethod
    def of(cls, owner: LocalModel) -> _Loaded:
        try:
            from hermes_agent.models.decoding import Decoder
            from hermes_agent.models.mask import TurnBackend
        except ImportError as error:
            raise missing_extra(error) from error
        tokenizer, dialect = owner._tokenizer, owner.dialect
        if not tokenizer.is_fast:
            raise ModelUnavailableError(
                f"{owner.name!r} has a tokenizer written in Python ({type(tokenizer).__name__!r}), which the grammar "
                "engine cannot read",
                hint="use a checkpoint that ships a tokenizer.json",
            )
        model = owner._source.model()
        model.eval()
        stop_ids, stop_strings = _stops(model, tokenizer, dialect)
        config = model.config.get_text_config()
        backend = TurnBackend(model, tokenizer, vocab_size=config.vocab_size, stop_ids=stop_ids)
        decoder = Decoder(
            model,
            stop_ids=stop_ids,
            bytes_of=backend.bytes_of,
            reuse_prefix=owner._reuse_prefix,
            reuse_decoded=not getattr(model, "decodes_in_int8", False),
        )
        loaded = cls(
            owner=owner,
            tokenizer=tokenizer,
            backend=backend,
            decoder=decoder,
            tags=Tags.of(tokenizer, dialect),
            stop_strings=stop_strings,
            context_length=_context_length(owner._asked_length, config, tokenizer),
            defaults=dialect.sampling.over(_sampling_of(model)),
        )
        loaded._warm_up()
        return loaded

    def _warm_up(self) -> None:
        """The first pass and the first mask of a process are slow; nobody should wait for them twice."""
        processor = self.backend.get_cfg_logits_processor(r"start: /(.|\n)*/")
        for _ in self.decoder.write(self.tokenizer.encode("a b"), sampling=Sampling(), limit=2, processor=processor):
            pass
        self.backend.compiled = self.decoder.prefilled = self.decoder.decoded = 0

    def start(self, request: Request) -> _Turn:
        """Render, tokenise and set up one turn; nothing is read or written yet."""
        from hermes_agent.models.tokens import encode_segments

        prompt = encode_segments(self.tokenizer, self.owner._segments(request))
        room = self.context_length - len(prompt)
        if room < 1:
            raise ContextLengthError(
                f"the prompt is {len(prompt)} tokens long, and {self.owner.name!r} has a context window of "
                f"{self.context_length}",
                hint="shorten the conversation or the tool results, offer fewer tools, or choose a model with a "
                "longer context",
                messages=tuple(request.messages),
            )
        limit = room if request.max_tokens is None else min(request.max_tokens, room)
        processor: TurnProcessor | None = None
        if request.grammar is not None:
            processor = self.backend.get_cfg_logits_processor(request.grammar.lark(self.tags))
        steps = self.decoder.write(
            prompt,
            sampling=request.sampling.over(self.defaults),
            limit=limit,
            processor=processor,
            stop_strings=self.stop_strings,
        )
        return _Turn(len(prompt), steps)


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """A checkpoint on the hub or in a folder."""

    model_id: str
    adapter: str | None
    device_map: str | Mapping[str, int | str] | None
    dtype: str
    quantization_config: object | None
    revision: str | None
    trust_remote_code: bool
    local_files_only: bool

    def _hub(self) -> dict[str, Any]:
        return {
            "revision": self.revision,
            "trust_remote_code": self.trust_remote_code,
            "local_files_only": self.local_files_only,
        }

    def tokenizer(self) -> PreTrainedTokenizerBase:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.model_id, **self._hub())

    def model(self) -> PreTrainedModel:
        from transformers import AutoModelForCausalLM

        options: dict[str, Any] = {"dtype": self.dtype, "device_map": self.device_map}
        if self.quantization_config is not None:
            options["quantization_config"] = self.quantization_config
        model = AutoModelForCausalLM.from_pretrained(self.model_id, **options, **self._hub())
        if self.adapter is None:
            return model
        from peft import PeftModel

        adapted = PeftModel.from_pretrained(model, self.adapter)
        # Merged, an adapter costs nothing; quantised weights cannot take it in without loss.
        return adapted if getattr(model, "is_quantized", False) else adapted.merge_and_unload()


@dataclass(frozen=True, slots=True)
class _Objects:
    """What is loaded already."""

    loaded_model: PreTrainedModel
    loaded_tokenizer: PreTrainedTokenizerBase

    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.loaded_tokenizer

    def model(self) -> PreTrainedModel:
        return self.loaded_model


def _available(load: Callable[[], _T], name: str) -> _T:
    """Run a loader; what goes wrong there says what to do."""
    try:
        return load()
    except ImportError as error:
        raise missing_extra(error) from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelUnavailableError(
            f"{name!r} could not be loaded: {error}",
            hint="check the id or the folder; without a network only what the hub's cache holds can be loaded",
        ) from error


def _template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The chat template that a checkpoint ships for tools; some ship several by name."""
    found: object = tokenizer.chat_template
    if isinstance(found, dict):
        found = found.get("tool_use") or found.get("default")
    return found if isinstance(found, str) else ""


def _stops(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dialect: Dialect
) -> tuple[frozenset[int], tuple[str, ...]]:
    """The tokens that end a turn, and the dialect's stops that are no token of this vocabulary."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    found: set[int | None] = {tokenizer.eos_token_id}
    found.update(configured if isinstance(configured, list | tuple) else [configured])
    added = {token.content: index for index, token in tokenizer.added_tokens_decoder.items()}
    found.update(added.get(stop) for stop in dialect.stops)
    return frozenset(int(i) for i in found if i is not None), tuple(s for s in dialect.stops if s not in added)


def _context_length(asked: int | None, config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    if asked is not None:
        return asked
    found = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    return int(min(found, _NO_LIMIT))


def _sampling_of(model: PreTrainedModel) -> Sampling:
    """What the checkpoint itself recommends; greedy if it does not say that it samples."""
    config = model.generation_config
    penalty = getattr(config, "repetition_penalty", None)
    if not getattr(config, "do_sample", False):
        return Sampling(temperature=0.0, repetition_penalty=penalty)
    found = Sampling(
        temperature=getattr(config, "temperature", None),
        top_p=getattr(config, "top_p", None),
        top_k=getattr(config, "top_k", None),
        repetition_penalty=penalty,
    )
    return found if found.temperature is not None else replace(found, temperature=1.0)
