"""Model objects of Outlines, and what its type adapters put into requests."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import warnings
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import openai
import outlines
import outlines.models as theirs
import pytest
from outlines.models.ollama import OllamaTypeAdapter
from outlines.models.sglang import SGLangTypeAdapter
from outlines.models.tgi import TGITypeAdapter
from outlines.models.vllm import VLLMTypeAdapter
from outlines.types import CFG, JsonSchema, Regex

from hermes_agent import Agent
from hermes_agent import JsonSchema as OurSchema
from hermes_agent import Regex as OurRegex
from hermes_agent.errors import ConfigurationError
from hermes_agent.models import resolve
from hermes_agent.models.endpoint import Endpoint
from hermes_agent.models.local import LocalModel
from hermes_agent.models.outlines import from_outlines, outlines_adapter_fields
from hermes_agent.models.outlines_model import OutlinesModel
from hermes_agent.output import Output
from tests.scripted_server import ScriptedServer

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
CLOSED = {**SCHEMA, "additionalProperties": False}
KEY = "a-key"


def test_importing_the_package_does_not_import_outlines() -> None:
    code = (
        "import sys, hermes_agent, hermes_agent.models, hermes_agent.testing; hermes_agent.Agent('embedded');"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('outlines', 'openai', 'torch')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


# What the adapters of the installed Outlines emit, exactly: a release that changes it fails here, and is looked at.


@pytest.mark.parametrize(
    ("adapter", "wanted", "emitted"),
    [
        (VLLMTypeAdapter, JsonSchema(SCHEMA), {"structured_outputs": {"json": SCHEMA}}),
        (VLLMTypeAdapter, Regex("a+"), {"structured_outputs": {"regex": "(a+)"}}),
        (VLLMTypeAdapter, CFG('root ::= "a"'), {"structured_outputs": {"grammar": 'root ::= "a"'}}),
        (
            SGLangTypeAdapter,
            JsonSchema(SCHEMA),
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "default", "strict": True, "schema": CLOSED},
                }
            },
        ),
        (SGLangTypeAdapter, Regex("a+"), {"extra_body": {"regex": "(a+)"}}),
        (SGLangTypeAdapter, CFG('root ::= "a"'), {"extra_body": {"ebnf": 'root ::= "a"'}}),
        (TGITypeAdapter, JsonSchema(SCHEMA), {"grammar": {"type": "json", "value": SCHEMA}}),
        (TGITypeAdapter, Regex("a+"), {"grammar": {"type": "regex", "value": "(a+)"}}),
        (TGITypeAdapter, CFG('root ::= "a"'), NotImplementedError),
        (OllamaTypeAdapter, JsonSchema(SCHEMA), SCHEMA),
        (OllamaTypeAdapter, Regex("a+"), TypeError),
        (OllamaTypeAdapter, CFG('root ::= "a"'), TypeError),
    ],
)
def test_what_the_adapters_emit(adapter: type[Any], wanted: Any, emitted: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SGLang's warns that it wants EBNF
        if isinstance(emitted, type):
            with pytest.raises(emitted):
                adapter().format_output_type(wanted)
        else:
            assert adapter().format_output_type(wanted) == emitted


@pytest.mark.parametrize(
    ("server", "spec", "fields"),
    [
        ("vllm", OurSchema(SCHEMA), {"structured_outputs": {"json": SCHEMA}}),
        ("vllm", Literal["a", "b"], {"structured_outputs": {"json": {"enum": ["a", "b"], "type": "string"}}}),
        ("vllm", OurRegex(r"\d+"), {"structured_outputs": {"regex": r"(\d+)"}}),
        ("vllm", str, None),
        ("sglang", OurRegex(r"\d+"), {"regex": r"(\d+)"}),
        (
            "sglang",
            OurSchema(SCHEMA),
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "default", "strict": True, "schema": CLOSED},
                }
            },
        ),
        ("tgi", OurSchema(SCHEMA), None),  # theirs is for /generate
        ("ollama", OurSchema(SCHEMA), None),  # theirs is for /api/chat
        ("llamacpp", OurSchema(SCHEMA), None),
        ("vllm", OurSchema({"exclusiveMinimum": 1, "dependentRequired": {"a": ["b"]}, "items": {}}), ...),
    ],
)
def test_fields_for_a_request(server: str, spec: Any, fields: Any) -> None:
    output: Output[Any] = Output.of(spec)
    before = json.dumps(output.schema)
    found = outlines_adapter_fields(server, output)
    assert found == fields or (fields is ... and found is not None)
    assert json.dumps(output.schema) == before


def test_a_schema_the_adapter_cannot_check_has_no_fields() -> None:
    """Outlines checks by draft 7, where ``items`` as a boolean is fine but a list of types for ``$defs`` is not."""
    schema = OurSchema({"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True})
    assert outlines_adapter_fields("vllm", Output.of(schema)) is None


def client_of(**settings: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key=KEY, **settings)


def async_client(base_url: str = "http://127.0.0.1:9/v1") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=base_url, api_key=KEY)


@pytest.mark.parametrize(
    ("make", "server"),
    [
        (lambda: outlines.from_vllm(client_of(), "m"), "vllm"),
        (lambda: outlines.from_vllm(async_client(), "m"), "vllm"),
        (lambda: outlines.from_sglang(client_of(), "m"), "sglang"),
        (lambda: outlines.from_sglang(async_client(), "m"), "sglang"),
        (lambda: outlines.from_openai(client_of(), "m"), "generic"),
        (lambda: outlines.from_openai(async_client(), "m"), "generic"),
    ],
)
def test_objects_on_an_openai_client_become_endpoints(make: Any, server: str) -> None:
    model = resolve(make())
    assert isinstance(model, Endpoint)
    assert model.server.name == server
    assert model.base_url == "http://127.0.0.1:9/v1"
    assert model.model_id == "m"


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://inference-api.nousresearch.com/v1", "nous"),
        ("https://llm.example.org/v1", "generic"),
    ],
)
def test_the_server_behind_an_openai_object_is_known_by_its_address(url: str, server: str) -> None:
    model = resolve(theirs.AsyncOpenAI(async_client(url), "m"))
    assert isinstance(model, Endpoint)
    assert model.server.name == server


def test_headers_of_a_blocking_client_are_kept() -> None:
    model = resolve(outlines.from_vllm(client_of(default_headers={"x-team": "a"}, default_query={"v": "1"}), "m"))
    assert isinstance(model, Endpoint)
    client = model._transport._connections._given  # pyright: ignore[reportPrivateUsage]  # what goes onto the wire
    assert client is not None
    assert client.default_headers["x-team"] == "a"
    assert client.default_query == {"v": "1"}
    assert client.api_key == KEY


def test_runs_over_a_blocking_clients_server() -> None:
    """Twice, as each ``run_sync`` has an event loop of its own; with what the client was set up to send."""

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    def script(body: dict[str, Any]) -> list[str]:
        answered = "tool_response" in json.dumps(body["prompt"].rpartition("1 + 2?")[2])
        return ["3"] if answered else ['<tool_call>\n{"name": "add", ', '"arguments": {"a": 1, "b": 2}}\n</tool_call>']

    with ScriptedServer(script) as server:
        client = openai.OpenAI(base_url=server.url, api_key=KEY, default_headers={"x-team": "a"}, max_retries=0)
        agent = Agent(outlines.from_vllm(client, "m"), tools=[add], output=int)
        for _ in range(2):
            assert agent.run_sync("1 + 2?").output == 3
        asked = [request for request in server.requests if request.path.endswith("completions")]
        assert len(asked) == 4
        assert {request.headers["x-team"] for request in asked} == {"a"}
        assert {request.headers["authorization"] for request in asked} == {f"Bearer {KEY}"}


def test_a_blocking_client_that_cannot_be_copied_is_used_itself() -> None:
    import httpx2

    own = client_of(http_client=httpx2.Client(trust_env=False))
    assert isinstance(resolve(outlines.from_openai(own, "m")), OutlinesModel)
    azure = openai.AzureOpenAI(azure_endpoint="https://x.example.org", api_key=KEY, api_version="2024-10-21")
    assert isinstance(resolve(outlines.from_openai(azure, "m")), OutlinesModel)


def test_an_object_without_a_model_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'VLLM' object of Outlines does not say which model"):
        resolve(outlines.from_vllm(client_of()))


def test_tgi() -> None:
    from huggingface_hub import AsyncInferenceClient, InferenceClient

    for client in (InferenceClient("http://127.0.0.1:9", token=KEY), AsyncInferenceClient("http://127.0.0.1:9/v1/")):
        model = resolve(outlines.from_tgi(client))
        assert isinstance(model, Endpoint)
        assert (model.server.name, model.base_url) == ("tgi", "http://127.0.0.1:9/v1")
    assert isinstance(resolve(outlines.from_tgi(InferenceClient("some/model"))), OutlinesModel)


def test_ollama_and_lmstudio() -> None:
    """Their packages are not needed: what is asked of their clients is played."""
    http = SimpleNamespace(base_url="http://127.0.0.1:9", headers={"authorization": f"Bearer {KEY}"})
    model = resolve(theirs.Ollama(cast("Any", SimpleNamespace(_client=http)), "hermes3"))
    assert isinstance(model, Endpoint)
    assert (model.server.name, model.base_url, model.model_id) == ("ollama", "http://127.0.0.1:9/v1", "hermes3")
    model = resolve(theirs.LMStudio(cast("Any", SimpleNamespace(_api_host="127.0.0.1:9")), "hermes"))
    assert isinstance(model, Endpoint)
    assert (model.server.name, model.base_url) == ("lmstudio", "http://127.0.0.1:9/v1")
    model = resolve(theirs.AsyncLMStudio(cast("Any", SimpleNamespace(_api_host=None)), "hermes"))
    assert isinstance(model, Endpoint)
    assert model.base_url == "http://localhost:1234/v1"


def test_one_object_is_one_model_as_long_as_it_is_used() -> None:
    remote = outlines.from_vllm(client_of(), "m")
    assert resolve(remote) is resolve(remote)
    client: Any = SimpleNamespace()
    other = theirs.Anthropic(client, "claude")
    adapter = resolve(other)
    assert resolve(other) is adapter
    gone = weakref.ref(other)
    del other, adapter
    gc.collect()
    assert gone() is None


@pytest.fixture(scope="module")
def loaded() -> theirs.Transformers:
    import transformers

    from hermes_agent.models.embedded import ensure

    folder, untyped = ensure(), cast("Any", transformers)
    weights: Any = untyped.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer: Any = untyped.AutoTokenizer.from_pretrained(folder)
    found = outlines.from_transformers(weights, tokenizer)
    assert isinstance(found, theirs.Transformers)
    return found


def test_a_transformers_object_writes_with_our_mask(loaded: theirs.Transformers) -> None:
    agent = Agent(loaded, output=Literal["yes", "no"], constrain="strict")
    assert isinstance(agent.model, LocalModel)
    assert from_outlines(loaded) is agent.model
    result = agent.run_sync("Is water wet?")
    assert result.output in ("yes", "no")
    assert result.guarantee == "token"


def test_the_same_object_through_outlines_own_generation(loaded: theirs.Transformers) -> None:
    """The way of local models that are not ours: Outlines' mask with the whole turn grammar, in one piece."""
    result = Agent(OutlinesModel(loaded), output=Literal["yes", "no"]).run_sync("Is water wet?")
    assert result.output in ("yes", "no")
    assert result.guarantee == "checked"
    assert result.turns[-1].raw in ('"yes"', '"no"')
