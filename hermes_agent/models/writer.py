"""Who takes the tokens of one turn: draws them from logits, and says what they are as text.

The same for a turn that is written alone and for one among others.
"""

# transformers, peft and torch leave parts of their signatures untyped; what we pass on has a type again.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import RepetitionPenaltyLogitsProcessor

from hermes_agent.models.base import FinishReason
from hermes_agent.models.mask import TurnProcessor
from hermes_agent.models.thinking import ThoughtBudget
from hermes_agent.models.tokens import StopStrings, TextStream
from hermes_agent.sampling import Sampling

__all__ = ["Vocabulary", "Writer", "Written"]


@dataclass(frozen=True, slots=True)
class Written:
    """A step of a turn: new text, perhaps none, and what the turn has cost by then.

    Attributes:
        text: The new text.
        tokens: Written so far.
        finish_reason: Why the turn ended; ``None`` before its end.
        thought_tokens: Written so far inside of the thinking block.
        thought_cut: Whether its budget has ended the thinking block.
        lost: At the end: whether the mask was given up on the way.
    """

    text: str
    tokens: int = 0
    finish_reason: FinishReason | None = None
    thought_tokens: int = 0
    thought_cut: bool = False
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a writer knows of the model's tokens.

    Attributes:
        stop_ids: Tokens that end a turn.
        bytes_of: The bytes a token stands for.
        encode: The tokens of a piece of markup.
    """

    stop_ids: frozenset[int]
    bytes_of: Callable[[int], bytes]
    encode: Callable[[str], list[int]]


class Writer:
    """One turn as it is written.

    Args:
        prompt: Token ids, at least one.
        vocabulary: The model's.
        sampling: How tokens are drawn; what is ``None`` does nothing.
        limit: Most tokens to write.
        processor: Keeps the turn to a grammar.
        stop_strings: End the turn where they appear and the grammar lets it end; they are not given out.
        thought: Ends the thinking block in time.

    Attributes:
        prompt: As given.
        count: Tokens written so far.
        new: Tokens that the model has to read next.
        done: Nothing more is to be written.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        vocabulary: Vocabulary,
        *,
        sampling: Sampling,
        limit: int,
        processor: TurnProcessor | None = None,
        stop_strings: Sequence[str] = (),
        thought: ThoughtBudget | None = None,
    ) -> None:
        self.prompt = prompt
        self.count = 0
        self.new: list[int] = []
        self.done = False
        self._vocabulary = vocabulary
        self._limit = limit
        self._processor = processor
        self._thought = thought
        self._ids = list(prompt)
        self._draw = _Draw(sampling)
        self._text, self._stops = TextStream(vocabulary.bytes_of), StopStrings(stop_strings)

    def write(self, logits: torch.Tensor) -> list[Written]:
        """Draw the next token, and with it what a thought's budget forces behind it.

        Args:
            logits: Those behind the last token, float32, ``[vocabulary]``.

        Raises:
            ModelError: The grammar engine gave up.
        """
        processor = self._processor
        token = self._draw(self._ids, logits if processor is None else processor.bias(logits))
        self.new = [token]
        self.count += 1
        if token in self._vocabulary.stop_ids:
            return [self._end("stop")]
        if processor is not None:
            processor.advance(token)
        fresh = self._text.push(token)
        thought = self._thought
        if thought is not None and thought.push(fresh) and not self._text.pending:
            forced = self._end_thought(thought)
            self.new += forced
            self.count += len(forced)
            fresh += "".join(map(self._text.push, forced))
        self._ids += self.new
        piece, stopped = self._stops.push(fresh, may_stop=processor is None or processor.accepting)
        if stopped:
            return [self._step(piece, "stop")]
        if processor is not None and processor.complete:
            return [self._step(piece), self._end("stop")]
        if self.count >= self._limit:
            return [self._step(piece), self._end("length")]
        return [self._step(piece)]

    def _step(self, text: str, reason: FinishReason | None = None) -> Written:
        self.done = reason is not None
        used, cut = (0, False) if self._thought is None else (self._thought.used, self._thought.cut)
        lost = self.done and self._processor is not None and bool(self._processor.lost)
        return Written(text, self.count, reason, used, cut, lost)

    def _end(self, reason: FinishReason) -> Written:
        rest, _ = self._stops.push(self._text.flush(), may_stop=False)
        return self._step(rest + self._stops.flush(), reason)

    def _end_thought(self, thought: ThoughtBudget) -> list[int]:
        """The tokens that end a thought here; none if the grammar wants something else first."""
        forced = self._vocabulary.encode(thought.closing)
        if self._processor is not None:
            if not self._processor.allows(forced):
                return []
            for token in forced:
                self._processor.advance(token)
        thought.end()
        return forced


class _Draw:
    """Draws one token after the other from one seeded stream."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        penalty = sampling.repetition_penalty
        self._penalty = RepetitionPenaltyLogitsProcessor(penalty) if penalty and penalty != 1.0 else None
        # On the CPU: one generator, and the same numbers, whatever device the model sits on.
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def __call__(self, ids: Sequence[int], logits: torch.Tensor) -> int:
        if self._penalty is not None:
            seen: Any = torch.tensor([list(ids)], device=logits.device)
            logits = self._penalty(seen, logits[None].clone())[0]
        if not self._sampling.temperature:
            return int(logits.argmax())
        # The likeliest first, and no more of them than can be drawn: sorting a whole vocabulary takes milliseconds.
        top_k, top_p = self._sampling.top_k or 0, self._sampling.top_p or 1.0
        tokens: torch.Tensor | None = None
        if 0 < top_k < len(logits):
            logits, tokens = logits.topk(top_k)
        elif top_p < 1.0:
            logits, tokens = logits.sort(descending=True)
        mass = (logits.double() / self._sampling.temperature).softmax(-1).cumsum(-1).cpu()
        if top_p < 1.0:  # up to and with the token that reaches top_p of what top_k has left
            mass = mass[: int((mass < top_p).sum()) + 1]
        mark = torch.rand(1, generator=self._generator, dtype=torch.float64) * mass[-1]
        drawn = int(torch.searchsorted(mass, mark, right=True).clamp(max=len(mass) - 1))
        return drawn if tokens is None else int(tokens[drawn])
