from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from hermes_agent.models import PROVIDERS
from tests.command import hermes


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hugging Face cache of one causal model, one that is none, and a broken one."""
    hub = tmp_path / "hub"
    for name, config in {
        "causal": '{"architectures": ["Qwen3ForCausalLM"]}',
        "encoder": '{"architectures": ["BertModel"]}',
        "broken": "{",
    }.items():
        repo = hub / f"models--someone--{name}"
        revision = repo / "snapshots" / ("0" * 40)
        revision.mkdir(parents=True)
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text("0" * 40)
        (revision / "config.json").write_text(config)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    return hub


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HERMES_SDK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_json_tells_what_is_there(hub: Path, cache: Path) -> None:
    ran = hermes("models", "--json")
    assert ran.code == 0
    told = json.loads(ran.out)
    assert told["embedded"]["cached"] is False
    assert told["embedded"]["folder"].startswith(str(cache))
    assert [model["name"] for model in told["huggingface"]] == ["hf:someone/causal"]
    assert told["packages"]["llguidance"] == version("llguidance")
    assert told["names"] == PROVIDERS


def test_text_tells_the_same(hub: Path) -> None:
    out = hermes("models").out
    assert "embedded  not fetched yet" in out
    assert "hf:someone/causal" in out
    assert "encoder" not in out
    for name in PROVIDERS:
        assert name in out


def test_no_hub_cache_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    assert json.loads(hermes("models", "--json").out)["huggingface"] == []


def test_missing_packages_come_with_the_way_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("hermes_agent.cli.models.version", missing)
    assert 'pip install "hermes-agent-sdk[local]"' in hermes("models").out


def test_fetch_makes_sure_of_the_embedded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hermes_agent.models.embedded.ensure", lambda: tmp_path / "there")
    ran = hermes("models", "fetch")
    assert (ran.code, ran.out) == (0, f"embedded is in {tmp_path / 'there'}\n")
