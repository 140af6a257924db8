"""Open weights in this process: transformers runs them, our grammar masks every token.

Prompts come from the checkpoint's own chat template where it renders tools, else from the dialect. Either way other
people's text is tokenised so that it cannot become markup.
"""

# transformers, peft and torch leave parts of their signatures untyped; what we pass on has a type again.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from hermes_agent.errors import ConfigurationError, ContextLengthError, ModelError
from hermes_agent.formats.dialects import Dialect, calls_are_xml, guess_dialect
from hermes_agent.formats.dialects import dialect as named_dialect
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.formats.prompt import render_segments, template_segments, template_switches
from hermes_agent.formats.segments import Segment, instructed, spelled
from hermes_agent.models.base import Chunk, Guarantee, Request
from hermes_agent.models.checkpoint import (
    Checkpoint,
    Objects,
    Source,
    available,
    bos_of,
    template_of,
)
from hermes_agent.models.permission import check_requests_allowed
from hermes_agent.models.thinking import thought_budget
from hermes_agent.reasoning import Reasoning

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from hermes_agent.models.loading import Loaded
    from hermes_agent.models.writer import Writer

__all__ = ["LocalModel"]

_BATCH_SIZE = 8


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
        batch_size: Most turns that are written together when several are asked for at once. Each has its own
            grammar, sampling and limits. Memory for their attention grows with the turns that are under way; a turn
            alone needs none more. In float arithmetic a turn may come out otherwise among others than alone, where
            two tokens are about as likely; 1 writes one turn after the other.
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
        batch_size: int = _BATCH_SIZE,
        source: Source | None = None,
    ) -> None:
        self._id = str(model_id)
        self._name = self._id if source else f"hf:{self._id}"
        self._source = source or Checkpoint(
            self._id,
            adapter=None if adapter is None else str(adapter),
            device_map=device_map,
            dtype=dtype,
            quantization_config=quantization_config,
            revision=revision,
            trust_remote_code=trust_remote_code,
            local_files_only=local_files_only,
        )
        self._asked_dialect = None if dialect is None else named_dialect(dialect)
        self._asked_template = chat_template
        self._asked_length = context_length
        self._reuse_prefix = reuse_prefix
        if batch_size < 1:
            raise ConfigurationError(f"batch_size={batch_size!r} leaves no turn to write", hint="use 1 or more")
        self._batch_size = batch_size
        self._known_dialect = self._asked_dialect
        self._known_tokenizer: PreTrainedTokenizerBase | None = None
        self._tokenizing = threading.Lock()
        self._loading = threading.Lock()
        self._loaded: Loaded | None = None

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
        batch_size: int = _BATCH_SIZE,
    ) -> LocalModel:
        """A model that is loaded already, however that was done.

        Args:
            model: A causal language model of transformers; from an Outlines model take its ``.model``.
            tokenizer: Its fast tokenizer; from an Outlines model take its ``.hf_tokenizer``.
            name: What it is called; by default what its config calls it.
            dialect: As for the class.
            chat_template: As for the class.
            context_length: As for the class.
            reuse_prefix: As for the class.
            batch_size: As for the class.
        """
        return LocalModel(
            name or str(model.config.name_or_path) or type(model).__name__,
            dialect=dialect,
            chat_template=chat_template,
            context_length=context_length,
            reuse_prefix=reuse_prefix,
            batch_size=batch_size,
            source=Objects(model, tokenizer),
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._id!r})"

    @property
    def name(self) -> str:
        """The name as a user would write it."""
        return self._name

    @property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        # A lock of its own, only ever taken inside the one for loading: whoever wants the dialect need not wait
        # for the weights, and nobody waits for the other.
        with self._tokenizing:
            if self._known_tokenizer is None:
                check_requests_allowed(self)
                self._known_tokenizer = available(self._source.tokenizer, self.name)
            return self._known_tokenizer

    @property
    def dialect(self) -> Dialect:
        """How the model is spoken to. May load the tokenizer."""
        if self._known_dialect is None:
            template = self._asked_template or template_of(self._tokenizer)
            self._known_dialect = guess_dialect(self._id, chat_template=template, bos=bos_of(self._tokenizer))
        return self._known_dialect

    async def guarantee(self, grammar: TurnGrammar, *, prove: bool = False) -> Guarantee:
        """``"token"``, whatever the grammar: every token is masked here."""
        del grammar, prove
        return "token"

    @property
    def batch_size(self) -> int:
        """Most turns that are written together; 1 once it is known that this model's attention cannot be shared."""
        return self._loaded.batch_size if self._loaded else self._batch_size

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
        self._ready()

    def _ready(self) -> Loaded:
        with self._loading:
            if self._loaded is None:
                check_requests_allowed(self)
                self._loaded = available(self._load, self.name)
            return self._loaded

    def _load(self) -> Loaded:
        from hermes_agent.models.loading import load

        return load(
            self._source,
            self._tokenizer,
            self.dialect,
            name=self.name,
            context=self._asked_length,
            reuse_prefix=self._reuse_prefix,
            batch_size=self._batch_size,
        )

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Write one turn. Up to ``batch_size`` are written at a time; others wait their turn.

        Raises:
            ContextLengthError: The prompt leaves no room to write.
            ModelError: The model cannot be loaded, or fails.
        """
        check_requests_allowed(self)
        # A thread of its own, so that slow tools in the shared ones never hold up the model.
        threads = anyio.CapacityLimiter(1)
        # Whoever is cancelled does not wait for the load: it goes on in its thread, and the next turn finds it done.
        loaded = await anyio.to_thread.run_sync(self._ready, limiter=threads, abandon_on_cancel=True)
        writer = await anyio.to_thread.run_sync(self._writer, loaded, request, limiter=threads)
        prompt_tokens = len(writer.prompt)
        async with aclosing(loaded.batch.write(writer)) as steps:
            async for step in steps:
                if step.text or step.finish_reason is not None:
                    # Every one says what the turn has cost, as the loop may leave it there.
                    yield Chunk(
                        step.text,
                        step.finish_reason,
                        prompt_tokens,
                        step.tokens,
                        step.thought_tokens,
                        step.thought_cut,
                        "checked" if step.lost else None,  # the mask was given up in the middle of the turn
                    )

    def _writer(self, loaded: Loaded, request: Request) -> Writer:
        """Render, tokenise and set up one turn; nothing is read or written yet."""
        from hermes_agent.models.writer import Writer

        prompt = self.prompt_tokens(request)
        room = loaded.context_length - len(prompt)
        if room < 1:
            raise ContextLengthError(
                f"the prompt is {len(prompt)} tokens long, and {self.name!r} has a context window of "
                f"{loaded.context_length}",
                hint="shorten the conversation or the tool results, offer fewer tools, or choose a model with a "
                "longer context",
            )
        grammar = None if request.grammar is None else request.grammar.lark(loaded.tags)
        limit = room if request.max_tokens is None else min(request.max_tokens, room)
        return Writer(
            prompt,
            loaded.vocabulary,
            sampling=request.sampling.over(loaded.sampling),
            limit=limit,
            processor=None if grammar is None else loaded.processor(grammar),
            stop_strings=loaded.stop_strings,
            thought=thought_budget(request, loaded.tags.thinking, limit),
        )

    def prompt_tokens(self, request: Request) -> list[int]:
        """The prompt of a turn as the model reads it. Loads the tokenizer, not the weights.

        In other people's text nothing is markup: what has a token of its own is tokenised as text, and a tag that the
        vocabulary spells out is broken by a zero-width space.
        """
        from hermes_agent.models.tokens import added_tokens, encode_segments

        tokens = frozenset(added_tokens(self._tokenizer))
        segments = [
            segment if segment.trusted else Segment(spelled(segment.text, self.dialect, tokens), trusted=False)
            for segment in self._segments(request)
        ]
        return encode_segments(self._tokenizer, [*segments, Segment(instructed(request.prefix, self.dialect))])

    def count_tokens(self, text: str) -> int:
        """How many tokens a text has in a prompt, as other people's text: no tag in it counts as markup.

        Loads the tokenizer, not the weights; may be called from any thread.
        """
        from hermes_agent.models.tokens import count_tokens

        return count_tokens(self._tokenizer, text)

    def _segments(self, request: Request) -> list[Segment]:
        """The prompt, by the checkpoint's template or by ours."""
        template = self._asked_template
        if template is None and self._asked_dialect is None:
            shipped = template_of(self._tokenizer)
            # One that asks for calls in XML would ask for what the grammar forbids.
            usable = "tools" in shipped and not (request.tools and calls_are_xml(shipped))
            template = shipped if usable else None
        if template is None:
            return render_segments(
                request.messages,
                dialect=self.dialect,
                tools=request.tools,
                output=request.output,
                reasoning=request.reasoning,
            )
        from hermes_agent.models.tokens import added_tokens

        return template_segments(
            request.messages,
            lambda messages, tools: self._apply(template, request.reasoning, messages, tools),
            template=template,
            dialect=self.dialect,
            tools=request.tools,
            output=request.output,
            reasoning=request.reasoning,
            special=added_tokens(self._tokenizer),
        )

    def _apply(
        self, template: str, reasoning: Reasoning, messages: list[dict[str, Any]], tools: list[dict[str, Any]]
    ) -> str:
        """Run a chat template as transformers runs it."""
        from jinja2 import TemplateError

        switches: dict[str, Any] = template_switches(reasoning)
        shown: list[Any] | None = [*tools] or None  # some templates take an empty list for tools
        try:
            found = self._tokenizer.apply_chat_template(
                messages,
                tools=shown,
                chat_template=template,
                tokenize=False,
                add_generation_prompt=True,
                **switches,
            )
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise ModelError(
                f"the chat template of {self.name!r} failed: {error!r}",
                hint='let our renderer write the prompt: dialect="chatml", or the name of another dialect',
                raw=template,
            ) from error
        text = str(found)
        # Some templates open the thought themselves; here the model does, so that the turn is whole.
        bare = text.rstrip("\n").removesuffix(self.dialect.think_open)
        return bare if len(bare) < len(text.rstrip("\n")) else text
