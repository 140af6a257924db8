"""The table of servers, and the names that lead to it."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from hermes_agent.errors import ConfigurationError
from hermes_agent.models import PROVIDERS, resolve
from hermes_agent.models.endpoint import Endpoint
from hermes_agent.models.servers import PLACE, SERVERS, Form, Server, Wire, filled, server


def _resolved(name: str) -> Endpoint:
    found = resolve(name)
    assert isinstance(found, Endpoint)
    return found


@pytest.mark.parametrize("row", SERVERS.values(), ids=lambda row: row.name)
def test_every_row_is_whole(row: Server) -> None:
    assert row.wires
    assert set(row.wires) <= set(get_args(Wire))
    assert set(row.forms) <= set(row.wires)
    assert set(row.continues) <= set(row.wires)
    for forms in row.forms.values():
        assert len({form.name for form in forms}) == len(forms)
        for form in forms:
            assert PLACE in json.dumps(dict(form.body))
            assert PLACE not in json.dumps(filled(form, "grammar"))
    assert row.needs_key <= bool(row.keys)
    assert any(name.startswith(f"{row.name}:") for name in PROVIDERS)


def test_a_form_puts_the_grammar_in_its_place_and_changes_no_row() -> None:
    form = Form("f", "json_schema", {"response_format": {"type": "json_schema", "json_schema": {"schema": PLACE}}})
    assert filled(form, {"type": "object"}) == {
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
    }
    assert PLACE in json.dumps(dict(form.body))


def test_an_unknown_server_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown server 'vlm'(?s:.*)vllm"):
        server("vlm")


@pytest.mark.parametrize(
    ("name", "model_id", "url", "wire"),
    [
        ("vllm:NousResearch/Hermes-4-14B", "NousResearch/Hermes-4-14B", "http://localhost:8000/v1", "completions"),
        (
            "vllm:NousResearch/Hermes-4-14B@http://host:8001/v1",
            "NousResearch/Hermes-4-14B",
            "http://host:8001/v1",
            None,
        ),
        ("ollama:hermes3:8b", "hermes3:8b", "http://localhost:11434/v1", "chat"),
        ("lmstudio:hermes-4-70b@q4_k_m", "hermes-4-70b@q4_k_m", "http://localhost:1234/v1", "chat"),
        ("llamacpp+native:x", "x", "http://localhost:8080/v1", "native"),
        ("generic:x@https://example.org/v1/", "x", "https://example.org/v1", "chat"),
        ("vllm:x@HTTP://host:1/v1", "x", "http://host:1/v1", None),
        ("vllm:a/b@c@https://host/v1/", "a/b@c", "https://host/v1", None),
        ("vllm:x@http://[::1]:8000/v1", "x", "http://[::1]:8000/v1", None),
        ("ollama:hermes3:8b@http://host:11434", "hermes3:8b", "http://host:11434", None),
        ("ollama:hermes3@sha256:0123abcd", "hermes3@sha256:0123abcd", "http://localhost:11434/v1", None),
        ("openrouter:nous/hermes:free", "nous/hermes:free", "https://openrouter.ai/api/v1", None),
        ("nous:Hermes-4-405B", "Hermes-4-405B", "https://inference-api.nousresearch.com/v1", "chat"),
        ("openai:some-model", "some-model", "https://api.openai.com/v1", "native"),
    ],
)
def test_names_lead_to_endpoints(
    name: str, model_id: str, url: str, wire: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HERMES_SDK_BASE_URL", raising=False)
    found = _resolved(name)
    assert (found.model_id, found.base_url) == (model_id, url)
    assert found.wire == (wire or found.server.wires[0])
    assert _resolved(found.name).name == found.name


def test_the_environment_moves_local_servers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMES_SDK_BASE_URL", "http://elsewhere:9/v1")
    assert Endpoint("x").base_url == "http://elsewhere:9/v1"
    assert Endpoint("x", server="vllm").base_url == "http://elsewhere:9/v1"
    assert Endpoint("x", server="nous").base_url.startswith("https://inference-api.nousresearch.com")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vlm:x", "unknown model 'vlm:x'"),
        ("vllm:", "unknown model 'vllm:'"),
        ("vllm+raw:x", "unknown wire 'raw'"),
        ("vllm+:x", "unknown wire ''"),
        ("generic:x", "has no address of its own"),
        ("generic:x@http://", "'http://' is no URL"),
        ("generic:x@http:///v1", "'http:///v1' is no URL"),
        ("generic:x@http://:8000/v1", "is no URL"),
        ("generic:x@http://host:99999/v1", "is no URL"),
        ("generic:x@http://ho st/v1", "is no URL"),
        ("vllm:x@localhost:8000/v1", "'@localhost:8000/v1' behind the model's name is no address"),
        ("vllm:x@localhost", "is no address"),
        ("vllm:x@gpu-1:8000", "is no address"),
        ("vllm:x@gpu-1/v1", "is no address"),
        ("vllm:x@http:/host/v1", "is no address"),
        ("vllm:x@ftp://host/v1", "is no address"),
        ("vllm:@http://host/v1", "names no model"),
    ],
)
def test_a_name_that_leads_nowhere_says_the_way_out(name: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HERMES_SDK_BASE_URL", raising=False)
    with pytest.raises(ConfigurationError, match=said) as caught:
        resolve(name)
    assert caught.value.hint


def test_a_name_means_the_address_that_the_environment_holds_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMES_SDK_BASE_URL", "http://first:9/v1")
    first = _resolved("vllm:moving")
    monkeypatch.setenv("HERMES_SDK_BASE_URL", "http://second:9/v1")
    assert _resolved("vllm:moving").base_url == "http://second:9/v1"
    monkeypatch.setenv("HERMES_SDK_BASE_URL", "http://first:9/v1")
    assert _resolved("vllm:moving") is first


@pytest.mark.parametrize(
    "bad",
    [
        {"model_id": ""},
        {"model_id": "x", "base_url": "localhost:8000"},
        {"model_id": "x", "max_in_flight": 0},
        {"model_id": "x", "requests_per_minute": -1},
        {"model_id": "x", "max_retries": -1},
        {"model_id": "x", "wire": "carrier pigeon"},
    ],
)
def test_bad_settings_are_named(bad: dict[str, object]) -> None:
    model_id = str(bad.pop("model_id"))
    with pytest.raises(ConfigurationError):
        Endpoint(model_id, server="vllm", **bad)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # the point
