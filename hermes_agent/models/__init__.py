"""Everything that generates text, and the names it goes by."""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING

from hermes_agent.errors import ConfigurationError

if TYPE_CHECKING:
    from hermes_agent.models.base import Model

__all__ = ["PROVIDERS", "resolve"]

PROVIDERS = {
    "embedded": "the small model that comes with the SDK",
    "hf:<id or folder>": "a causal language model of Hugging Face transformers, run here",
}
"""How models are named, and what each name means."""


def resolve(model: Model | str | None = None) -> Model:
    """The model a user means.

    Args:
        model: A model, a name such as ``"embedded"`` or ``"hf:NousResearch/Hermes-4-14B"``, or ``None`` for
            the environment's ``HERMES_SDK_MODEL``, else the embedded model.

    Returns:
        The model; one and the same object for one name within a process, so weights load once.

    Raises:
        ConfigurationError: The name is not understood.
    """
    if model is None:
        model = os.environ.get("HERMES_SDK_MODEL") or "embedded"
    if not isinstance(model, str):
        if not callable(getattr(model, "generate", None)):
            raise ConfigurationError(
                f"{model!r} is not a model", hint=f"pass a Model, or a name: {' or '.join(PROVIDERS)}"
            )
        return model
    with _lock:
        if model not in _known:
            _known[model] = _named(model)
        return _known[model]


_known: dict[str, Model] = {}
_lock = Lock()


def _named(name: str) -> Model:
    provider, _, model_id = name.partition(":")
    if name == "embedded":
        from hermes_agent.models.embedded import EmbeddedModel

        return EmbeddedModel()
    if provider == "hf" and model_id:
        from hermes_agent.models.local import LocalModel

        return LocalModel(model_id)
    raise ConfigurationError(f"unknown model {name!r}", hint=f"models are named {' or '.join(PROVIDERS)}")
