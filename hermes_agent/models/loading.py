"""What exists once the weights of a local model are there."""

# transformers, peft and torch leave parts of their signatures untyped; what we pass on has a type again.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hermes_agent.errors import ModelUnavailableError
from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.grammar import Tags
from hermes_agent.formats.segments import Segment
from hermes_agent.models.batching import Batch
from hermes_agent.models.checkpoint import Source, context_length, sampling_of, stops_of
from hermes_agent.models.decoding import Decoder
from hermes_agent.models.mask import TurnBackend, TurnProcessor
from hermes_agent.models.slots import Slots, can_share
from hermes_agent.models.tokens import encode_segments
from hermes_agent.models.writer import Vocabulary, Writer
from hermes_agent.sampling import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Loaded", "load"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded model.

    Attributes:
        tokenizer: Its tokenizer.
        backend: The grammar engine, with its vocabulary.
        decoder: Reads prompts; only ``batch`` may use it.
        batch: Writes turns.
        batch_size: How many of them together; 1 if the model's attention cannot be shared.
        vocabulary: What a writer knows of the tokens.
        tags: How the dialect's tags are spelled in tokens.
        stop_strings: Texts that end a turn.
        context_length: Tokens of prompt and turn together.
        sampling: What a request leaves open.
    """

    tokenizer: PreTrainedTokenizerBase
    backend: TurnBackend
    decoder: Decoder
    batch: Batch
    batch_size: int
    vocabulary: Vocabulary
    tags: Tags
    stop_strings: tuple[str, ...]
    context_length: int
    sampling: Sampling
    compiling: threading.Lock = field(default_factory=threading.Lock)

    def processor(self, grammar: str) -> TurnProcessor:
        """What keeps one turn to a grammar."""
        with self.compiling:
            return self.backend.get_cfg_logits_processor(grammar).twin()


def load(
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    dialect: Dialect,
    *,
    name: str,
    context: int | None,
    reuse_prefix: bool,
    batch_size: int,
) -> Loaded:
    """Load the weights, and warm them up.

    Args:
        source: Where they come from.
        tokenizer: Loaded already.
        dialect: How the model is spoken to.
        name: What it is called in errors.
        context: Tokens of its window; ``None`` asks the checkpoint.
        reuse_prefix: As for `LocalModel`.
        batch_size: As for `LocalModel`.

    Raises:
        ModelUnavailableError: The grammar engine cannot read the tokenizer.
    """
    if not tokenizer.is_fast:
        raise ModelUnavailableError(
            f"{name!r} has a tokenizer written in Python, {type(tokenizer).__name__!r}, which the grammar "
            "engine cannot read",
            hint="use a checkpoint that ships a tokenizer.json",
        )
    model: PreTrainedModel = source.model()
    model.train(mode=False)
    stop_ids, stop_strings = stops_of(model, tokenizer, dialect)
    config = model.config.get_text_config()
    backend = TurnBackend(model, tokenizer, vocab_size=config.vocab_size, stop_ids=stop_ids)
    even = source.writes_as_it_reads
    opener = [] if even else encode_segments(tokenizer, [Segment(dialect.turn_open)])[:1]
    decoder = Decoder(model, reuse_prefix=reuse_prefix, reuse_decoded=even, openers=frozenset(opener))
    vocabulary = Vocabulary(stop_ids, backend.bytes_of, lambda markup: encode_segments(tokenizer, [Segment(markup)]))
    prompt, anything = tokenizer.encode("a b"), backend.get_cfg_logits_processor(r"start: /(.|\n)*/")
    _warm_up(decoder, Writer(prompt, vocabulary, sampling=Sampling(), limit=1, processor=anything))
    most = batch_size if can_share(model, decoder.cache) else 1
    backend.compiled = decoder.prefilled = 0
    # In int8 a pass over single tokens is hundreds of small steps, behind each of which threads would wait for each
    # other. Measured with the embedded model on two cores, a token: 19 ms of one core; 18 ms of both if no other thread
    # of the process has ever used torch, else 35.
    batch = Batch(decoder, Slots(model, decoder.options), most, writing_threads=None if even else 1)
    return Loaded(
        tokenizer=tokenizer,
        backend=backend,
        decoder=decoder,
        batch=batch,
        batch_size=most,
        vocabulary=vocabulary,
        tags=Tags.of(tokenizer, dialect),
        stop_strings=stop_strings,
        context_length=context or context_length(config, tokenizer),
        sampling=dialect.sampling.over(sampling_of(model)),
    )


def _warm_up(decoder: Decoder, writer: Writer) -> None:
    """The first passes and the first mask of a process are slow; no turn should pay for them."""
    reading = decoder.read(writer.prompt)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            writer.write(end.value)
            break
    decoder.forward(writer.new)
