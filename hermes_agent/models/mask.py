"""The mask on every token: Outlines' llguidance backend, kept for the life of a model.

What differs from the backend as Outlines ships it: grammars compile once and are copied from then on (10 µs against
milliseconds), every stop token of the model ends a turn and not only the tokenizer's own, logits may be wider than
the vocabulary, and the mask is laid on without ``torch.compile``, whose first call costs 3 to 26 seconds and a C++
compiler.
"""

# transformers, peft and torch leave parts of their signatures untyped; what we pass on has a type again.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import llguidance.hf
import llguidance.numpy
import numpy as np
import outlines
import torch
from llguidance import LLMatcher
from outlines.backends.llguidance import LLGuidanceBackend, LLGuidanceLogitsProcessor

from hermes_agent.errors import GrammarError, ModelError
from hermes_agent.formats.engine import limits

if TYPE_CHECKING:
    from llguidance import LLTokenizer
    from transformers import PreTrainedModel

__all__ = ["TurnBackend", "TurnProcessor"]

_KEPT_GRAMMARS = 64

_OUT_OF_MEANS = re.compile(r"too many expressions|too many states|Current row has|fuel|too big")
"""What the engine says when it has run out of its budget."""


class TurnProcessor(LLGuidanceLogitsProcessor):
    """A logits processor for one sequence at a time. ``reset`` before each turn.

    Args:
        grammar: The grammar as llguidance reads it.
        llg_tokenizer: The vocabulary.

    Raises:
        GrammarError: The engine refuses the grammar.
    """

    def __init__(self, grammar: str, llg_tokenizer: LLTokenizer) -> None:
        # Under its "torch" name Outlines would import and configure torch._dynamo; the numpy adapter does as well.
        super().__init__(grammar, llg_tokenizer, "numpy")
        self._fresh = LLMatcher(llg_tokenizer, grammar, log_level=0, limits=limits())
        if self._fresh.is_error():
            raise GrammarError(
                f"the engine cannot compile the turn: {self._fresh.get_error().splitlines()[0]}",
                hint="simplify the schema or the pattern that it names",
                raw=grammar,
            )
        self._bits = llguidance.numpy.allocate_token_bitmask(1, llg_tokenizer.vocab_size)
        self._matcher = self._fresh.deep_copy()

    def twin(self) -> TurnProcessor:
        """One for another turn under the same grammar, at its beginning; nothing is compiled."""
        made = copy.copy(self)
        made._bits = self._bits.copy()
        made.reset()
        return made

    def reset(self) -> None:
        """Start a new turn."""
        self.is_first_token = True
        self.lost = ""
        self._matcher = self._fresh.deep_copy()

    @property
    def accepting(self) -> bool:
        """Whether the turn could end here."""
        return bool(self.lost) or self._matcher.is_accepting()

    @property
    def complete(self) -> bool:
        """Whether the turn can only end here."""
        return not self.lost and self._matcher.is_stopped()

    def allows(self, tokens: Sequence[int]) -> bool:
        """Whether these tokens may come next, one after the other."""
        return bool(self.lost) or bool(self._matcher.validate_tokens(list(tokens)) == len(tokens))

    def advance(self, token: int) -> None:
        """Take note of a token that was written.

        Raises:
            ModelError: The grammar does not allow it.
        """
        if not self.lost and not self._matcher.consume_token(token) and not self._gave_up():
            raise ModelError(
                f"the grammar engine stopped at token {token!r}: {self._matcher.get_error()}",
                hint="report it with the grammar, which is in .raw",
                raw=self.grammar,
            )

    def _gave_up(self) -> bool:
        """Whether the engine ran into one of its own limits, as some patterns make it: no fault of the tokens.

        The turn goes on free then, and is validated as every turn is.
        """
        if self._matcher.is_error() and _OUT_OF_MEANS.search(error := self._matcher.get_error()):
            self.lost = error.splitlines()[0]
        return bool(self.lost)

    def bias(self, logits: torch.Tensor) -> torch.Tensor:
        """The logits of one position, ``[vocabulary]``, with everything that may not come next at -inf."""
        if self.lost:
            return logits
        llguidance.numpy.fill_next_token_bitmask(self._matcher, self._bits, 0)
        if self._gave_up():
            return logits
        allowed = np.unpackbits(self._bits.view(np.uint8).ravel(), bitorder="little")[: logits.shape[-1]]
        denied = torch.ones(logits.shape[-1], dtype=torch.bool)
        denied[: allowed.shape[0]] = torch.from_numpy(allowed == 0)
        return logits.masked_fill(denied.to(logits.device), float("-inf"))

    def process_logits(self, input_ids: Any, logits: Any) -> Any:
        """What a ``LogitsProcessor`` does: note the last token of ``[1, n]`` ids, mask ``[1, vocabulary]`` logits."""
        if self.is_first_token:
            self.is_first_token = False
        else:
            self.advance(int(input_ids[0, -1]))
        return self.bias(logits[0])[None]


_vocabularies: WeakKeyDictionary[Any, dict[tuple[object, ...], LLTokenizer]] = WeakKeyDictionary()


def _vocabulary(tokenizer: Any, width: int, stop_ids: tuple[int, ...]) -> LLTokenizer:
    """The engine's view of a vocabulary. At 150,000 tokens it takes two seconds to make, so models share it."""
    known = _vocabularies.setdefault(tokenizer, {})
    key = (len(tokenizer), width, stop_ids)
    if key not in known:
        known[key] = llguidance.hf.from_tokenizer(tokenizer, n_vocab=width, eos_token=list(stop_ids) or None)
    return known[key]


class TurnBackend(LLGuidanceBackend):
    """One per loaded model. Counts the grammars it compiles.

    Args:
        model: The loaded model; it is asked nothing, Outlines wants to see it.
        tokenizer: Its tokenizer; it must be a fast one.
        vocab_size: Width of the model's logits.
        stop_ids: Every token that ends a turn.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        *,
        vocab_size: int,
        stop_ids: Iterable[int],
    ) -> None:
        self._vocab_size = max(vocab_size, len(tokenizer))
        self._stop_ids = sorted(stop_ids)
        self._kept: OrderedDict[str, TurnProcessor] = OrderedDict()
        self.compiled = 0
        super().__init__(outlines.from_transformers(model, tokenizer))

    def _create_llg_tokenizer(self, model: Any) -> LLTokenizer:
        return _vocabulary(model.hf_tokenizer, self._vocab_size, tuple(self._stop_ids))

    def get_cfg_logits_processor(self, grammar: str) -> TurnProcessor:
        """The processor of a Lark grammar, ready for a new turn; compiled on first sight of its text."""
        processor = self._kept.pop(grammar, None)
        if processor is None:
            processor = TurnProcessor(self.llg.grammar_from("lark", grammar), self.llg_tokenizer)
            self.compiled += 1
        self._kept[grammar] = processor
        if len(self._kept) > _KEPT_GRAMMARS:
            self._kept.popitem(last=False)
        processor.reset()
        return processor

    def bytes_of(self, token: int) -> bytes:
        """The bytes a token stands for; an added token stands for its name."""
        return bytes(self.llg_tokenizer.decode_bytes([token]))
