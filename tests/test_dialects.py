"""Dialects are data: by name, guessed, overridden."""

from __future__ import annotations

import pytest

from hermes_agent.errors import ConfigurationError
from hermes_agent.formats import DIALECTS, dialect, guess_dialect
from hermes_agent.formats.dialects import calls_are_xml

CHATML, LLAMA = "<|im_start|>", "<|start_header_id|>"


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_is_known_by_its_own_name(name: str) -> None:
    d = dialect(name)
    assert d.name == name
    assert d.stops
    assert d.turn_close.startswith(d.stops[0])
    assert "{role}" in d.turn_open


@pytest.mark.parametrize(
    ("name", "markup", "role", "bos"),
    [
        ("hermes-2-pro", CHATML, "tool", ""),
        ("hermes-3", CHATML, "tool", "<|begin_of_text|>"),
        ("deephermes-3", LLAMA, "tool", "<|begin_of_text|>"),
        ("hermes-4-14b", CHATML, "user", ""),
        ("hermes-4-70b", LLAMA, "user", "<|begin_of_text|>"),
        ("hermes-4-405b", LLAMA, "user", "<|begin_of_text|>"),
        ("hermes-4.3-36b", LLAMA, "user", "<seed:bos>"),
        ("chatml", CHATML, "tool", ""),
    ],
)
def test_turn_markup_is_that_of_the_published_templates(name: str, markup: str, role: str, bos: str) -> None:
    d = dialect(name)
    assert (d.turn_open.startswith(markup), d.tool_role, d.bos) == (True, role, bos)


@pytest.mark.parametrize(
    ("model_id", "name"),
    [
        ("NousResearch/Hermes-4-14B-FP8", "hermes-4-14b"),
        ("hermes4:70b", "hermes-4-70b"),
        ("Hermes-4-405B", "hermes-4-405b"),
        ("nousresearch/hermes-4.3-36b", "hermes-4.3-36b"),
        ("lmstudio-community/Hermes-4-70B-MLX-6bit", "hermes-4-70b"),
        ("NousResearch/Hermes-3-Llama-3.1-8B", "hermes-3"),
        ("hermes3:8b", "hermes-3"),
        ("NousResearch/DeepHermes-3-Llama-3-8B-Preview", "deephermes-3"),
        ("NousResearch/Hermes-2-Pro-Mistral-7B", "hermes-2-pro"),
        ("Qwen/Qwen3-8B", "qwen3"),
        ("qwen3:14b", "qwen3"),
        ("models/qwen3_14b", "qwen3"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3"),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", "qwen3"),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "chatml"),
        ("qwen3-coder:30b", "chatml"),
        ("Qwen/Qwen3-Coder-Next", "chatml"),
        ("Qwen/Qwen3.5-35B-A3B", "chatml"),
        ("qwen3.5:9b", "chatml"),
        ("models/qwen3_5", "chatml"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "chatml"),
        ("", "chatml"),
    ],
)
def test_dialects_are_guessed_from_ids(model_id: str, name: str) -> None:
    assert guess_dialect(model_id).name == name


def test_the_template_corrects_the_id() -> None:
    wrong = guess_dialect("hermes-4.3-36b-GGUF", chat_template="<|im_start|>{{ role }}")
    assert (wrong.name, wrong.turn_close, wrong.stops) == ("hermes-4.3-36b", "<|im_end|>\n", ("<|im_end|>",))
    assert guess_dialect("mystery", chat_template="<|start_header_id|>").stops == ("<|eot_id|>", "<|end_of_text|>")


def test_a_real_qwen3_template_is_recognised(qwen3_template: str) -> None:
    assert guess_dialect("my-finetune", chat_template=qwen3_template).name == "qwen3"


def test_a_template_that_asks_for_calls_in_xml_is_not_taken_for_that_of_qwen3(qwen3_template: str) -> None:
    xml = qwen3_template + "{# <tool_call>\n<function=example>\n<parameter=x>\n1\n</parameter> #}"
    assert not calls_are_xml(qwen3_template)
    assert calls_are_xml(xml)
    assert guess_dialect("my-finetune", chat_template=xml).name == "chatml"
    assert guess_dialect("Qwen/Qwen3.5-4B", chat_template=xml).name == "chatml"
    assert not calls_are_xml("<seed:tool_call>\n<function=example>")  # tags of its own


def test_dialects_are_guessed_from_a_tokenizer(qwen3_template: str) -> None:
    class Tokenizer:
        name_or_path = "/models/checkpoint-900"
        chat_template: object = qwen3_template

    assert guess_dialect(Tokenizer()).name == "qwen3"
    Tokenizer.name_or_path, Tokenizer.chat_template = "NousResearch/Hermes-4-14B", None
    assert guess_dialect(Tokenizer()).name == "hermes-4-14b"


def test_every_field_can_be_overridden() -> None:
    assert dialect("hermes-4-70b", tool_role="tool").tool_role == "tool"
    with pytest.raises(ConfigurationError, match="'tool_rolle'"):
        dialect("chatml", tool_rolle="x")
    with pytest.raises(ConfigurationError, match=r"'hermes-5'[\s\S]*hermes-4-14b"):
        dialect("hermes-5")
