"""What the model classes of Outlines call our sampling settings and limits, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hermes_agent.formats.dialects import Dialect
from hermes_agent.models.base import Request

__all__ = ["settings_of"]

_ANTHROPIC_TOKENS = 4096
"""Anthropic's API wants a limit."""

_SAMPLING = {"temperature": "temperature", "top_p": "top_p"}
_ARGUMENTS: Mapping[str, Mapping[str, str]] = {
    "LlamaCpp": {
        **_SAMPLING, "top_k": "top_k", "repetition_penalty": "repeat_penalty", "seed": "seed",
        "max_tokens": "max_tokens", "stops": "stop",
    },
    "MLXLM": {"max_tokens": "max_tokens"},
    "Transformers": {"max_tokens": "max_new_tokens"},
    "TransformersMultiModal": {"max_tokens": "max_new_tokens"},
    "VLLMOffline": {
        **_SAMPLING, "top_k": "top_k", "repetition_penalty": "repetition_penalty", "seed": "seed",
        "max_tokens": "max_tokens", "stops": "stop",
    },
    "OpenAI": {**_SAMPLING, "seed": "seed", "max_tokens": "max_completion_tokens"},
    "Mistral": {**_SAMPLING, "seed": "random_seed", "max_tokens": "max_tokens"},
    "AsyncMistral": {**_SAMPLING, "seed": "random_seed", "max_tokens": "max_tokens"},
    "Anthropic": {**_SAMPLING, "top_k": "top_k", "max_tokens": "max_tokens"},
    "TGI": {
        **_SAMPLING, "top_k": "top_k", "repetition_penalty": "repetition_penalty", "seed": "seed",
        "max_tokens": "max_new_tokens", "stops": "stop",
    },
    "AsyncTGI": {
        **_SAMPLING, "top_k": "top_k", "repetition_penalty": "repetition_penalty", "seed": "seed",
        "max_tokens": "max_new_tokens", "stops": "stop",
    },
}  # fmt: skip
"""What each class calls our settings; one that is not here is not passed on."""


def settings_of(kind: str, request: Request, dialect: Dialect, *, raw: bool) -> dict[str, Any]:
    """The arguments of a generation.

    Args:
        kind: Name of the object's class.
        request: Says what is wanted.
        dialect: Fills the gaps, and names the stops.
        raw: Whether the object gets a raw prompt; a chat's stops are the object's own affair.
    """
    names = _ARGUMENTS.get(kind, {})
    sampling = request.sampling.over(dialect.sampling)
    limit = request.max_tokens
    if limit is None and kind == "Anthropic":
        limit = _ANTHROPIC_TOKENS
    ours: dict[str, Any] = {"max_tokens": limit, "stops": list(dialect.stops) if raw else None}
    settings = {theirs: ours[name] if name in ours else getattr(sampling, name) for name, theirs in names.items()}
    found = {name: value for name, value in settings.items() if value is not None}
    return _vllm_settings(found) if kind == "VLLMOffline" else found


def _vllm_settings(found: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as vLLM's own object; without one it would write 16 tokens."""
    from importlib import import_module

    vllm: Any = import_module("vllm")  # it is there, as the user has made an object of it
    return {"sampling_params": vllm.SamplingParams(**{"max_tokens": None, **found}, skip_special_tokens=False)}
