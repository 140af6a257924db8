"""Model objects of Outlines, taken as they are; and what its type adapters put into requests.

Importing this module imports Outlines; nothing else of the package does so before a model is used.
"""

# Outlines leaves parts of its signatures untyped; what we pass on has a type again.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary, ref

import outlines.models as theirs
from outlines.models.sglang import SGLangTypeAdapter
from outlines.models.vllm import VLLMTypeAdapter
from outlines.types import JsonSchema, Regex

from hermes_agent.errors import ConfigurationError
from hermes_agent.models.outlines_model import OutlinesModel
from hermes_agent.models.servers import SERVERS

if TYPE_CHECKING:
    from outlines.models.base import AsyncModel
    from outlines.models.base import Model as SyncModel

    from hermes_agent.models.base import Model
    from hermes_agent.output import Output

__all__ = ["from_outlines", "outlines_adapter_fields"]

_known: WeakKeyDictionary[object, Callable[[], Model | None]] = WeakKeyDictionary()
_lock = threading.Lock()


def from_outlines(model: SyncModel | AsyncModel) -> Model:
    """The model that writes Hermes turns with an object of Outlines.

    - ``Transformers``: a `LocalModel` on the same weights; the grammar holds every token.
    - Objects on a client of a server that speaks OpenAI's API (``VLLM``, ``SGLang``, ``OpenAI``, ``TGI``, ``Ollama``,
      ``LMStudio`` and their async forms): an `Endpoint` to that server, with its address, key and model.
    - All others: an `OutlinesModel`.

    Args:
        model: What ``outlines.from_transformers(...)`` and its like return.

    Returns:
        One and the same model for one object, as long as somebody holds on to it.

    Raises:
        ConfigurationError: The object does not say which model it is, or has weights that do not write turns.
    """
    with _lock:
        known = _known.get(model)
        ours = known() if known is not None else None
        if ours is None:
            ours = made = _ours(model)
            # An adapter holds on to the object, so the object must not hold on to it.
            _known[model] = ref(made) if isinstance(made, OutlinesModel) else lambda: made
        return ours


def _ours(model: SyncModel | AsyncModel) -> Model:
    if type(model) is theirs.Transformers:
        return _local(model)
    for kinds, server, connect in _REMOTE:
        if isinstance(model, kinds) and (found := connect(model)) is not None:
            return _endpoint(model, server, found)
    return OutlinesModel(model)


def _local(model: theirs.Transformers) -> Model:
    from hermes_agent.models.local import LocalModel

    if model.model.config.is_encoder_decoder:
        raise ConfigurationError(
            f"{model.model.config.name_or_path!r} is an encoder-decoder model, which writes no turns",
            hint="use a causal language model, such as NousResearch/Hermes-4-14B",
        )
    tokenizer: Any = model.hf_tokenizer  # Outlines calls its type by an older name
    return LocalModel.from_objects(model.model, tokenizer)


def _endpoint(model: Any, server: str, connection: Mapping[str, Any]) -> Model:
    from hermes_agent.models.endpoint import Endpoint

    found: dict[str, Any] = {"model_id": getattr(model, "model_name", None), **connection}
    if not (model_id := found.pop("model_id")):
        raise ConfigurationError(
            f"the {type(model).__name__!r} object of Outlines does not say which model it is",
            hint="name it when making the object, as in outlines.from_vllm(client, 'NousResearch/Hermes-4-14B')",
        )
    if server == "openai":
        server = _server_at(str(found["client"].base_url if "client" in found else found["base_url"]))
    return Endpoint(model_id, server=server, **found)


def _server_at(base_url: str) -> str:
    """The server behind an address, for objects that only say that it speaks OpenAI's API."""
    host = urlsplit(base_url).hostname
    named = {urlsplit(row.base_url).hostname: row.name for row in SERVERS.values() if row.base_url and row.needs_key}
    return named.get(host, "generic")


def _of_openai(model: Any) -> dict[str, Any] | None:
    """The connection of an openai client; ``None`` for a blocking one that no async one can stand in for."""
    import openai

    client: Any = model.client
    if isinstance(model.client, openai.AsyncOpenAI):
        return {"client": client}
    ours = type(model.client) is openai.OpenAI and type(client._client).__name__ == "SyncHttpxClientWrapper"
    if not ours:  # Azure's has its own addresses, and an HTTP client of the user's may hold proxies and certificates
        return None
    headers, query = client._custom_headers, client._custom_query  # there is no public way
    if not (headers or query or client.organization or client.project):
        return {"base_url": str(client.base_url), "api_key": client.api_key}
    return {"client": _async_twin(client, headers, query)}


def _async_twin(client: Any, headers: Mapping[str, str], query: Mapping[str, object]) -> Any:
    import httpx2
    import openai

    return openai.AsyncOpenAI(
        api_key=client.api_key,
        base_url=client.base_url,
        organization=client.organization,
        project=client.project,
        default_headers=headers,
        default_query=query,
        # Connections do not outlive their event loop, and run_sync runs a new one each time: so none is kept.
        http_client=openai.DefaultAsyncHttpxClient(limits=httpx2.Limits(max_keepalive_connections=0)),
    )


def _of_ollama(model: Any) -> dict[str, Any]:
    http = model.client._client  # there is no public way
    key = http.headers.get("authorization", "").removeprefix("Bearer ")
    return {"base_url": _v1(http.base_url), "api_key": key or None}


def _of_tgi(model: Any) -> dict[str, Any] | None:
    """The connection of a client of huggingface_hub; ``None`` where it goes to the hub's own services."""
    address = str(model.client.model or "")
    if not address.startswith(("http://", "https://")):
        return None
    return {"base_url": _v1(address), "api_key": model.client.token or None, "model_id": "tgi"}


def _of_lmstudio(model: Any) -> dict[str, Any]:
    host: object = getattr(model.client, "_api_host", None)  # None until it has looked for the server
    return {"base_url": _v1(f"http://{host}") if host else None}


def _v1(address: object) -> str:
    return str(address).rstrip("/").removesuffix("/v1") + "/v1"


_REMOTE: tuple[tuple[tuple[type, ...], str, Callable[[Any], dict[str, Any] | None]], ...] = (
    ((theirs.VLLM, theirs.AsyncVLLM), "vllm", _of_openai),
    ((theirs.SGLang, theirs.AsyncSGLang), "sglang", _of_openai),
    ((theirs.OpenAI, theirs.AsyncOpenAI), "openai", _of_openai),
    ((theirs.TGI, theirs.AsyncTGI), "tgi", _of_tgi),
    ((theirs.Ollama, theirs.AsyncOllama), "ollama", _of_ollama),
    ((theirs.LMStudio, theirs.AsyncLMStudio), "lmstudio", _of_lmstudio),
)
"""Class of Outlines, server, and how to find its address."""


def outlines_adapter_fields(server: str, output: Output[Any]) -> dict[str, Any] | None:
    """The fields that Outlines' own type adapter adds to a request so that a server holds an answer to a type.

    Args:
        server: One of `hermes_agent.models.servers.SERVERS`.
        output: What the whole answer must be.

    Returns:
        Fields of the JSON body of ``/v1/chat/completions``; ``None`` where there is no adapter, where it cannot say
        the type, or where what it says is for another API: TGI's writes ``grammar`` for ``/generate`` and Ollama's
        ``format`` for ``/api/chat``, and the OpenAI-compatible endpoints of both ignore these.

    Example:
        >>> from hermes_agent.output import Output, Regex
        >>> outlines_adapter_fields("vllm", Output.of(Regex("a+")))
        {'structured_outputs': {'regex': '(a+)'}}
    """
    from jsonschema import SchemaError

    adapter = {"vllm": VLLMTypeAdapter, "sglang": SGLangTypeAdapter}.get(server)
    if adapter is None or output.kind == "text":
        return None
    try:
        wanted = Regex(output.pattern) if output.pattern is not None else JsonSchema(output.schema or {})
    except SchemaError:  # it checks by an older draft than ours
        return None
    fields: dict[str, Any] = dict(adapter().format_output_type(wanted))
    return {**fields.pop("extra_body", {}), **fields}
