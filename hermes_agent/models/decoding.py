"""Loaded weights that write: prefill, mask, draw, one token after the other, in the thread that asks."""

# transformers, peft and torch leave parts of their signatures untyped; what we pass on has a type again.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache, RepetitionPenaltyLogitsProcessor

from hermes_agent.errors import ModelError
from hermes_agent.models.base import FinishReason
from hermes_agent.models.mask import TurnProcessor
from hermes_agent.models.thinking import ThoughtBudget
from hermes_agent.models.tokens import StopStrings, TextStream
from hermes_agent.sampling import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Decoder", "Written"]

_BLOCK = 512
"""Prompt tokens a forward pass; between two passes a cancelled turn can stop."""


@dataclass(frozen=True, slots=True)
class Written:
    """A step of a turn: new text, perhaps none; ``tokens`` written so far; why it ended, at the end."""

    text: str
    tokens: int = 0
    finish_reason: FinishReason | None = None


class Decoder:
    """A model and the attention cache of what it read and wrote last. For one turn at a time.

    Args:
        model: The weights, in evaluation mode.
        stop_ids: Tokens that end a turn.
        bytes_of: The bytes a token stands for.
        encode: The tokens of a piece of markup.
        reuse_prefix: Read only what is new when a prompt starts like the last one.
        reuse_decoded: Reuse also what the model wrote itself. Off for a model that writes with other arithmetic
            than it reads with: then the outcome of a turn never depends on what happened to be in the cache.

    Attributes:
        prefilled: Prompt tokens read so far, over all turns.
        decoded: Tokens written so far, over all turns.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        stop_ids: frozenset[int],
        bytes_of: Callable[[int], bytes],
        encode: Callable[[str], list[int]],
        reuse_prefix: bool = True,
        reuse_decoded: bool = True,
    ) -> None:
        self._model = model
        self._stop_ids = stop_ids
        self._bytes_of = bytes_of
        self._encode = encode
        self._reuse_prefix = reuse_prefix
        self._reuse_decoded = reuse_decoded
        self._last_only = _last_only(model)
        self._cache: DynamicCache | None = None
        self._cached: list[int] = []
        self._read = 0
        self.prefilled = 0
        self.decoded = 0

    def write(
        self,
        prompt: Sequence[int],
        *,
        sampling: Sampling,
        limit: int,
        processor: TurnProcessor | None = None,
        stop_strings: Sequence[str] = (),
        thought: ThoughtBudget | None = None,
    ) -> Iterator[Written]:
        """Write one turn. Every step costs at most one forward pass; drop the iterator to stop.

        Args:
            prompt: Token ids, at least one.
            sampling: How tokens are drawn; what is ``None`` does nothing.
            limit: Most tokens to write.
            processor: Keeps the turn to a grammar.
            stop_strings: End the turn where they appear and the grammar lets it end; they are not given out.
            thought: Ends the thinking block in time.
        """
        draw = _Draw(sampling)
        text, stops, count = TextStream(self._bytes_of), StopStrings(stop_strings), 0
        logits = yield from self._prefill(prompt)
        ids = list(prompt)
        reason: FinishReason | None = None
        while reason is None:
            new = [draw(ids, logits if processor is None else processor.bias(logits))]
            count, self.decoded = count + 1, self.decoded + 1
            if new[0] in self._stop_ids:
                reason = "stop"
                break
            if processor is not None:
                processor.advance(new[0])
            fresh = text.push(new[0])
            if thought is not None and thought.push(fresh) and not text.pending:
                new += self._end_thought(thought, processor)
                count += len(new) - 1
                fresh += "".join(map(text.push, new[1:]))
            ids += new
            piece, stopped = stops.push(fresh, may_stop=processor is None or processor.accepting)
            if stopped:
                yield Written(piece, count, "stop")
                return
            complete = processor is not None and processor.complete
            reason = "stop" if complete else "length" if count >= limit else None
            yield Written(piece, count)
            if reason is None:
                logits = self._forward(new)
        rest, stopped = stops.push(text.flush(), may_stop=False)
        yield Written(rest + stops.flush(), count, reason)

    def _end_thought(self, thought: ThoughtBudget, processor: TurnProcessor | None) -> list[int]:
        """The tokens that end a thought here; none if the grammar wants something else first."""
        forced = self._encode(thought.closing)
        if processor is not None:
            if not processor.allows(forced):
                return []
            for token in forced:
                processor.advance(token)
        thought.end()
        self.decoded += len(forced)
        return forced

    def _prefill(self, prompt: Sequence[int]) -> Generator[Written, None, torch.Tensor]:
        """Read the prompt, pausing behind each block; returns the logits behind the last token."""
        kept = self._keep(prompt)
        while True:
            end = kept + _BLOCK
            if end + 1 >= len(prompt):  # a block is never a single token, which would be read as if written
                end = len(prompt)
            logits = self._forward(prompt[kept:end])
            self.prefilled += end - kept
            kept = self._read = end
            if end == len(prompt):
                return logits
            yield Written("")

    def _keep(self, prompt: Sequence[int]) -> int:
        """Cut the cache back to what it has in common with the prompt; its length."""
        kept = 0
        if self._reuse_prefix and self._cache is not None:
            most = min(len(self._cached), len(prompt) - 2)
            if not self._reuse_decoded:
                most = min(most, self._read)
            while kept < most and self._cached[kept] == prompt[kept]:
                kept += 1
        if kept == 0 or not self._crop(kept):
            self._cache, self._cached, kept = DynamicCache(config=self._model.config), [], 0
        return kept

    def _crop(self, length: int) -> bool:
        """Whether the cache could be cut to ``length``; sliding windows and recurrent states cannot always."""
        assert self._cache is not None
        surplus = len(self._cached) - length
        try:
            if surplus:
                self._cache.crop(-surplus)
            fits = self._cache.get_seq_length() == length
        except (RuntimeError, ValueError, NotImplementedError, AttributeError):
            return False
        del self._cached[length:]
        return fits

    def _forward(self, tokens: Sequence[int]) -> torch.Tensor:
        """Run the model over tokens that follow the cache; the float32 logits behind the last, ``[vocabulary]``."""
        try:
            with torch.inference_mode():
                ids = torch.tensor([list(tokens)], device=self._model.device)
                out = self._model(input_ids=ids, past_key_values=self._cache, use_cache=True, **self._last_only)
        except BaseException as error:
            at, self._cache, self._cached = len(self._cached), None, []
            if isinstance(error, RuntimeError | ValueError | IndexError):
                raise ModelError(
                    f"the model failed at token {at}: {error}",
                    hint="a smaller model, a shorter prompt or fewer max_tokens if memory ran out",
                ) from error
            raise
        self._cache = out.past_key_values
        self._cached.extend(tokens)
        logits: torch.Tensor = out.logits[0, -1].float()
        return logits


def _last_only(model: PreTrainedModel) -> dict[str, Any]:
    """Ask for the last position's logits only: a prompt's worth of them is gigabytes at 150,000 tokens."""
    unwrapped = getattr(model, "get_base_model", lambda: model)()  # an adapter's forward takes anything
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(unwrapped.forward).parameters else {}


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
