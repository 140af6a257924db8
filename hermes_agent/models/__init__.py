"""Everything that generates text, and the names it goes by."""

from __future__ import annotations

import os
import sys
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

from hermes_agent.errors import ConfigurationError

if TYPE_CHECKING:
    from hermes_agent.models.base import Model, ModelLike
    from hermes_agent.models.embedded import EmbeddedModel
    from hermes_agent.models.endpoint import Endpoint, Timeouts
    from hermes_agent.models.fallback import Fallback
    from hermes_agent.models.local import LocalModel

__all__ = ["PROVIDERS", "EmbeddedModel", "Endpoint", "Fallback", "LocalModel", "Timeouts", "resolve"]

# Name → module, imported on first use: none of them should cost the others' libraries.
_HOMES = {
    "EmbeddedModel": "embedded",
    "Endpoint": "endpoint",
    "Fallback": "fallback",
    "LocalModel": "local",
    "Timeouts": "endpoint",
}

PROVIDERS = {
    "embedded": "the small model that comes with the SDK",
    "hf:<id or folder>": "a causal language model of Hugging Face transformers, run here",
    "vllm:<model>": "a vLLM server, at http://localhost:8000/v1",
    "sglang:<model>": "an SGLang server, at http://localhost:30000/v1",
    "llamacpp:<model>": "llama.cpp's server, at http://localhost:8080/v1",
    "ollama:<model>": "Ollama, at http://localhost:11434/v1",
    "lmstudio:<model>": "LM Studio, at http://localhost:1234/v1",
    "tgi:<model>": "Text Generation Inference, at http://localhost:3000/v1",
    "openrouter:<model>": "OpenRouter; OPENROUTER_API_KEY",
    "nous:<model>": "the API of Nous Research; NOUS_API_KEY",
    "openai:<model>": "the API of OpenAI; OPENAI_API_KEY",
    "generic:<model>@<base URL>": "any other server that speaks OpenAI's API; HERMES_SDK_API_KEY",
}
"""How models are named, and what each name means. ``@<base URL>`` behind any server's model says where it listens;
``+completions``, ``+chat`` or ``+native`` behind the server's name chooses the wire: ``vllm+chat:model``."""


def resolve(model: ModelLike | None = None) -> Model:
    """The model a user means.

    Args:
        model: A model, a model object of Outlines as it is, a name such as ``"embedded"`` or
            ``"hf:NousResearch/Hermes-4-14B"``, or ``None`` for the environment's ``HERMES_SDK_MODEL``, else the
            embedded model.

    Returns:
        The model; one and the same object for one name within a process, so weights load once.

    Raises:
        ConfigurationError: The name is not understood.
    """
    if model is None:
        model = os.environ.get("HERMES_SDK_MODEL") or "embedded"
    if not isinstance(model, str):
        if _is_of_outlines(model):
            from hermes_agent.models.outlines import from_outlines

            return from_outlines(cast("Any", model))
        if not callable(getattr(model, "generate", None)):
            raise ConfigurationError(
                f"{model!r} is not a model", hint=f"pass a Model, or a name: {' or '.join(PROVIDERS)}"
            )
        return cast("Model", model)
    with _lock:
        known_as = _known_as(model)
        if known_as not in _known:
            _known[known_as] = _named(model)
        return _known[known_as]


_known: dict[tuple[str, str | None], Model] = {}
_lock = Lock()


def _is_of_outlines(model: object) -> bool:
    """Whether it is a model object of Outlines, which is imported if it is."""
    base: Any = sys.modules.get("outlines.models.base")
    return base is not None and isinstance(model, base.Model | base.AsyncModel)


def _known_as(name: str) -> tuple[str, str | None]:
    """A name and the address it means now: ``HERMES_SDK_BASE_URL`` may have changed since it was last resolved."""
    asked = _on_server(name)
    if asked is None:
        return name, None
    from hermes_agent.models.address import address
    from hermes_agent.models.servers import server

    return name, address(server(asked[0]), asked[3])


def _on_server(name: str) -> tuple[str, str | None, str, str | None] | None:
    """Server, wire, model and address of a name, if it is one of a model on a server."""
    provider, _, rest = name.partition(":")
    kind, plus, wire = provider.partition("+")
    if kind not in {known.partition(":")[0] for known in PROVIDERS} - {"embedded", "hf"} or not rest:
        return None
    from hermes_agent.models.address import split_name

    model_id, at = split_name(rest)
    return kind, wire if plus else None, model_id, at


def _named(name: str) -> Model:
    provider, _, model_id = name.partition(":")
    if name == "embedded":
        from hermes_agent.models.embedded import EmbeddedModel

        return EmbeddedModel()
    if provider == "hf" and model_id:
        from hermes_agent.models.local import LocalModel

        return LocalModel(model_id)
    if (asked := _on_server(name)) is not None:
        return _endpoint(*asked)
    raise ConfigurationError(f"unknown model {name!r}", hint=f"models are named {', '.join(PROVIDERS)}")


def _endpoint(server: str, wire: str | None, model_id: str, address: str | None) -> Model:
    from hermes_agent.models.endpoint import Endpoint
    from hermes_agent.models.servers import wire_named

    return Endpoint(model_id, server=server, wire="auto" if wire is None else wire_named(wire), base_url=address)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
