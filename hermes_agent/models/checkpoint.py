"""Where weights come from, and what a checkpoint says about itself. Imports torch and transformers only when asked."""

# transformers, peft and torch leave parts of their signatures untyped; what we pass on has a type again.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hermes_agent.errors import ModelUnavailableError
from hermes_agent.formats.dialects import Dialect
from hermes_agent.sampling import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "Checkpoint",
    "Objects",
    "Source",
    "available",
    "bos_of",
    "context_length",
    "missing_extra",
    "sampling_of",
    "stops_of",
    "template_of",
]

_T = TypeVar("_T")
_NO_LIMIT = 10**9
"""Tokenizers without a limit say 10**30."""


class Source(Protocol):
    """Loads a tokenizer and weights; each is called once, in whatever thread needs it first."""

    @property
    def writes_as_it_reads(self) -> bool:
        """Whether the model's arithmetic is the same for one token as for many."""
        ...

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer."""
        ...

    def model(self) -> PreTrainedModel:
        """Load the weights."""
        ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on the hub or in a folder; the fields are those of `LocalModel`."""

    model_id: str
    adapter: str | None
    device_map: str | Mapping[str, int | str] | None
    dtype: str
    quantization_config: object | None
    revision: str | None
    trust_remote_code: bool
    local_files_only: bool
    writes_as_it_reads: bool = True

    def _hub(self) -> dict[str, Any]:
        return {
            "revision": self.revision,
            "trust_remote_code": self.trust_remote_code,
            "local_files_only": self.local_files_only,
        }

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer."""
        from transformers import AutoTokenizer

        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self.model_id, **self._hub())
        return tokenizer

    def model(self) -> PreTrainedModel:
        """Load the weights, with the adapter on them."""
        from transformers import AutoModelForCausalLM

        options: dict[str, Any] = {"dtype": self.dtype, "device_map": self.device_map}
        if self.quantization_config is not None:
            options["quantization_config"] = self.quantization_config
        model: Any = AutoModelForCausalLM.from_pretrained(self.model_id, **options, **self._hub())
        if self.adapter is not None:
            from peft import PeftModel

            adapted: Any = PeftModel.from_pretrained(model, self.adapter)
            # Merged, an adapter costs nothing; quantised weights cannot take it in without loss.
            model = adapted if getattr(model, "is_quantized", False) else adapted.merge_and_unload()
        loaded: PreTrainedModel = model
        return loaded


@dataclass(frozen=True, slots=True)
class Objects:
    """What is loaded already."""

    loaded_model: PreTrainedModel
    loaded_tokenizer: PreTrainedTokenizerBase
    writes_as_it_reads: bool = True

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer."""
        return self.loaded_tokenizer

    def model(self) -> PreTrainedModel:
        """The weights."""
        return self.loaded_model


def missing_extra(error: ImportError) -> ModelUnavailableError:
    """The error for a model that needs packages which are not installed."""
    return ModelUnavailableError(
        f"running a model here needs the package {error.name or str(error)!r}, which is not installed",
        hint='pip install "hermes-agent-sdk[local]"' + (" peft" if error.name == "peft" else ""),
    )


def available(load: Callable[[], _T], name: str) -> _T:
    """Run a loader; the error of one that fails says what to do.

    Raises:
        ModelUnavailableError: A package, the checkpoint or the network is missing.
    """
    try:
        return load()
    except ImportError as error:
        raise missing_extra(error) from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelUnavailableError(
            f"{name!r} could not be loaded: {error}",
            hint="check the id or the folder; without a network only what the hub's cache holds can be loaded",
        ) from error


def template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The chat template a checkpoint ships, the one for tools if it ships several; empty for none."""
    found: object = tokenizer.chat_template
    if isinstance(found, dict):
        named: dict[str, object] = found
        found = named.get("tool_use") or named.get("default")
    return found if isinstance(found, str) else ""


def bos_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The token that the tokenizer puts before a text of its own accord; empty for none."""
    ids = tokenizer.encode("a")
    return str(tokenizer.bos_token) if tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id else ""


def stops_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dialect: Dialect
) -> tuple[frozenset[int], tuple[str, ...]]:
    """The tokens that end a turn, and those of the dialect's stops that are no token of this vocabulary."""
    configured: Any = getattr(model.generation_config, "eos_token_id", None)
    own: Any = tokenizer.eos_token_id
    found: set[Any] = {own}
    found.update(configured if isinstance(configured, list | tuple) else [configured])
    added = {token.content: index for index, token in tokenizer.added_tokens_decoder.items()}
    found.update(added.get(stop) for stop in dialect.stops)
    return frozenset(int(i) for i in found if i is not None), tuple(s for s in dialect.stops if s not in added)


def context_length(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """How many tokens prompt and turn may have together."""
    found = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    return int(min(found, _NO_LIMIT))


def sampling_of(model: PreTrainedModel) -> Sampling:
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
