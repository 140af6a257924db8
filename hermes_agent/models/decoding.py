"""Loaded weights that read: prompts, block by block behind what is known of them, and what was written since."""

# transformers, peft and torch leave parts of their signatures untyped; what we pass on has a type again.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import inspect
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache

from hermes_agent.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["BLOCK", "Decoder", "forward_takes"]

BLOCK = 512
"""Prompt tokens a forward pass; between two passes a cancelled turn can stop."""

_MESSAGE = 16
"""Tokens below which a message is not worth a pass of its own."""


class Decoder:
    """A model and the attention cache of what it read and wrote last. For one turn at a time.

    Args:
        model: The weights, in evaluation mode.
        reuse_prefix: Read only what is new when a prompt starts like the last one.
        reuse_decoded: Reuse also what the model wrote itself. Off for a model that writes with other arithmetic
            than it reads with: then the outcome of a turn never depends on what happened to be in the cache.
        openers: Tokens that open a message. With them a prompt is read message by message, and whole messages are
            what is reused: float arithmetic depends on how many tokens are read at once, and a turn must not.

    Attributes:
        prefilled: Prompt tokens read so far, over all turns.
        decoded: Tokens written so far, over all turns.
        options: What every forward pass is given.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        reuse_prefix: bool = True,
        reuse_decoded: bool = True,
        openers: frozenset[int] = frozenset(),
    ) -> None:
        self._model = model
        self._reuse_prefix = reuse_prefix
        self._reuse_decoded = reuse_decoded
        self._openers = openers
        self._bounds: list[int] = []
        self.options = _last_only(model)
        self._cache: DynamicCache | None = None
        self._cached: list[int] = []
        self._read = 0
        self.prefilled = 0
        self.decoded = 0

    def forget(self) -> None:
        """Forget what was read."""
        self._cache, self._cached, self._bounds, self._read = None, [], [], 0

    def read(self, prompt: Sequence[int]) -> Generator[None, None, torch.Tensor]:
        """Read the prompt, pausing behind each block; returns the logits behind the last token."""
        ends = self._ends(prompt)
        kept = self._keep(prompt, ends)
        while True:
            end = self._end(prompt, kept) if ends is None else next(end for end in ends if end > kept)
            logits = self.forward(prompt[kept:end])
            self.prefilled += end - kept
            kept = self._read = end
            self._bounds.append(end)
            if end == len(prompt):
                return logits
            yield

    def _end(self, prompt: Sequence[int], start: int) -> int:
        """Where a block ends; it is never a single token, which would be read as if written."""
        return len(prompt) if start + BLOCK + 1 >= len(prompt) else start + BLOCK

    def _ends(self, prompt: Sequence[int]) -> list[int] | None:
        """Where the blocks of a prompt end, whatever is kept of it: messages that are not very short are read apart."""
        if not self._openers:
            return None
        ends: list[int] = []
        start = 0
        for at in range(1, len(prompt) + 1):
            opens = at < len(prompt) and prompt[at] in self._openers and at - start >= _MESSAGE
            if opens or at - start == BLOCK or at == len(prompt):
                ends.append(at)
                start = at
        return ends

    @property
    def cache(self) -> DynamicCache:
        """What was read last, of one turn.

        Raises:
            ModelError: Nothing was, or the model failed at it.
        """
        if self._cache is None:
            raise ModelError("nothing has been read", hint="read a prompt first")
        return self._cache

    def _keep(self, prompt: Sequence[int], ends: Sequence[int] | None) -> int:
        """Cut the cache back to what it has in common with the prompt; its length."""
        kept = 0
        if self._reuse_prefix and self._cache is not None:
            most = min(len(self._cached), len(prompt) - 2)
            if not self._reuse_decoded:
                most = min(most, self._read)
            while kept < most and self._cached[kept] == prompt[kept]:
                kept += 1
        if ends is not None:
            same = [own for own, end in zip(self._bounds, ends, strict=False) if own == end]
            same = same if same == self._bounds[: len(same)] else []
            kept = max((end for end in same if end <= kept), default=0)
        self._bounds = [end for end in self._bounds if end <= kept]
        if kept == 0 or not self._crop(kept):
            self._cache, self._cached, kept = DynamicCache(config=self._model.config), [], 0
            self._bounds = []
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

    def forward(self, tokens: Sequence[int]) -> torch.Tensor:
        """Run the model over tokens that follow the cache; the float32 logits behind the last, ``[vocabulary]``."""
        try:
            with torch.inference_mode():
                ids = torch.tensor([list(tokens)], device=self._model.device)
                out = self._model(input_ids=ids, past_key_values=self._cache, use_cache=True, **self.options)
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
    return {"logits_to_keep": 1} if "logits_to_keep" in forward_takes(model) else {}


def forward_takes(model: PreTrainedModel) -> frozenset[str]:
    """The names of what a model's forward pass takes."""
    unwrapped = getattr(model, "get_base_model", lambda: model)()  # an adapter's forward takes anything
    return frozenset(inspect.signature(unwrapped.forward).parameters)
