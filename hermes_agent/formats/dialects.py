"""Dialects of the Hermes format, as data.

Sources: the model cards, chat templates and reference code that Nous Research published. Where only third
parties describe a template (tool role and exact blank lines of Hermes 4 and 4.3) the value here is the best
supported one, and every field can be overridden: ``dialect("hermes-4-70b", tool_role="tool")``.

Three published mistakes are left out on purpose: the brace too many at the end of the Hermes 2 Pro / 3 call
schema, tool descriptions with raw newlines inside JSON strings, and tool turns without a newline behind them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Protocol

from hermes_agent.errors import ConfigurationError
from hermes_agent.reasoning import Keep
from hermes_agent.sampling import Sampling

__all__ = ["DIALECTS", "Dialect", "calls_are_xml", "dialect", "guess_dialect"]

_FUNCTION_CALL_SCHEMA = (
    '{"properties": {"name": {"title": "Name", "type": "string"}, "arguments": {"title": "Arguments", '
    '"type": "object"}}, "required": ["name", "arguments"], "title": "FunctionCall", "type": "object"}'
)

_TOOLS_PROMPT_2 = (
    "You are a function calling AI model. You are provided with function signatures within <tools></tools> XML "
    "tags. You may call one or more functions to assist with the user query. Don't make assumptions about what "
    "values to plug into functions. Here are the available tools: <tools> {tools} </tools>Use the following "
    "pydantic model json schema for each tool call you will make: " + _FUNCTION_CALL_SCHEMA + "\nFor each "
    "function call return a json object with function name and arguments within <tool_call></tool_call> XML "
    'tags as follows:\n<tool_call>\n{"name": <function-name>, "arguments": <args-dict>}\n</tool_call>'
)

_TOOLS_PROMPT_SCRATCH_PAD = (
    "You are a function calling AI model. You are provided with function signatures within <tools> </tools> XML "
    "tags. You may call one or more functions to assist with the user query. If available tools are not relevant "
    "in assisting with user query, just respond in natural conversational language. Don't make assumptions about "
    "what values to plug into functions. After calling & executing the functions, you will be provided with "
    "function results within <tool_response> </tool_response> XML tags.\n<tools>\n{tools}\n</tools>\nFor each "
    "function call return a JSON object, with the following pydantic model json schema:\n"
    + _FUNCTION_CALL_SCHEMA
    + "\nEach function call should be enclosed within <tool_call> </tool_call> XML tags. You must use "
    "<scratch_pad> </scratch_pad> XML tags to record your reasoning and planning before you call the functions "
    "as follows.\nExample:\n<scratch_pad>\nGoal: <state task assigned by user>\nActions:\n<if tool calls need to "
    "be generated:>\n- {result_var_name1} = functions.{function_name1}({param1}={value1},...)\n"
    "- {result_var_name2, result_var_name3} = ...\n<if no tool call needs to be generated:> None\n"
    "Observation: <set observation 'None' with tool calls; plan final tools results summary when provided>\n"
    "Reflection: <evaluate query-tool relevance and required parameters when tools called; analyze overall task "
    "status when observations made>\n</scratch_pad>\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-dict>}\n</tool_call>'
)

_TOOLS_PROMPT_QWEN = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with "
    "function signatures within <tools></tools> XML tags:\n<tools>\n{tools}\n</tools>\n\nFor each function call, "
    "return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n"
    '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)

_TOOLS_PROMPT_4 = (
    "# Tools\n\nYou are a function calling AI model. You may call one or more functions to assist with the user "
    "query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>\n{tools}\n"
    "</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": "<function-name>", "arguments": '
    "<args-json-object>}\n</tool_call>"
)

_JSON_PROMPT = (
    "You are a helpful assistant that answers in JSON. Here's the json schema you must adhere to:\n"
    "<schema>\n{schema}\n</schema>"
)

_JSON_AFTER_TOOLS_PROMPT = (
    "When you need no more tools, answer in JSON. Here's the json schema you must adhere to:\n"
    "<schema>\n{schema}\n</schema>"
)

_DEEP_THINKING_PROMPT = (
    "You are a deep thinking AI, you may use extremely long chains of thought to deeply consider the problem and "
    "deliberate with yourself via systematic reasoning processes to help come to a correct solution prior to "
    "answering. You should enclose your thoughts and internal monologue inside <think> </think> tags, and then "
    "provide your solution or response to the problem."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one family of models is spoken to. Every field is a setting.

    Attributes:
        name: How the dialect is chosen.
        bos: Written before everything else.
        turn_open: Opens a turn; ``{role}`` is replaced.
        system_open: Opens a system or user turn where it differs from ``turn_open``; ``{role}`` is replaced.
        turn_close: Closes a turn.
        stops: Strings that end the model's turn; the first is the one it was trained on.
        tool_role: The role that tool results are rendered under.
        assistant_role: The role of the model's own turns.
        default_system: System text when the user gives none; empty writes no system turn.
        tools_prompt: Shows the tools; ``{tools}`` is replaced by one JSON object a line. Empty: no tools.
        instructions: Where the user's instructions stand: ``"before"`` or ``"after"`` the tools prompt in
            one system turn, or in a system turn of their ``"own"`` behind it, as the Hermes 2 Pro and 3
            templates do.
        json_prompt: JSON mode: shows the schema of the answer when there are no tools (``{schema}``).
        json_after_tools_prompt: The same, when there are tools too.
        thinking_prompt: Put before the user's instructions when thinking is on; empty where the model
            needs none.
        think_open, think_close: The tags of the thinking block.
        think_separator: Between the closing tag and what follows, in history.
        dropped_think: Stands in for a dropped thought while thinking is on.
        no_think: Opens the model's turn when thinking is off.
        keep_reasoning: Which earlier thoughts are shown again, unless the run says otherwise.
        result_envelope: Wrap a tool result as ``{"name": …, "content": …}``, as the model cards of
            Hermes 2 Pro, 3 and DeepHermes do; the templates do not ask for it.
        sampling: Defaults named on the model card.
        chat_template: A Jinja chat template to render with instead of the fields above.
    """

    name: str
    bos: str = ""
    turn_open: str = "<|im_start|>{role}\n"
    system_open: str = ""
    turn_close: str = "<|im_end|>\n"
    stops: tuple[str, ...] = ("<|im_end|>",)
    tool_role: str = "tool"
    assistant_role: str = "assistant"
    default_system: str = ""
    tools_prompt: str = _TOOLS_PROMPT_QWEN
    instructions: Literal["before", "after", "own"] = "before"
    json_prompt: str = _JSON_PROMPT
    json_after_tools_prompt: str = _JSON_AFTER_TOOLS_PROMPT
    thinking_prompt: str = _DEEP_THINKING_PROMPT
    think_open: str = "<think>"
    think_close: str = "</think>"
    think_separator: str = "\n"
    dropped_think: str = ""
    no_think: str = ""
    keep_reasoning: Keep = "none"
    result_envelope: bool = False
    sampling: Sampling = Sampling()
    chat_template: str | None = None


_CARD_2 = Sampling(temperature=0.8, repetition_penalty=1.1)
_CARD_4 = Sampling(temperature=0.6, top_p=0.95, top_k=20)
_LLAMA_STOPS = ("<|eot_id|>", "<|end_of_text|>")
_LLAMA_OPEN = "<|start_header_id|>{role}<|end_header_id|>\n\n"

_CHATML = Dialect(name="chatml")
_HERMES_2_PRO = Dialect(
    name="hermes-2-pro",
    tools_prompt=_TOOLS_PROMPT_2,
    instructions="own",
    result_envelope=True,
    sampling=_CARD_2,
)
_HERMES_3 = replace(_HERMES_2_PRO, name="hermes-3", bos="<|begin_of_text|>")
_DEEPHERMES_3 = replace(
    _HERMES_3,
    name="deephermes-3",
    turn_open=_LLAMA_OPEN,
    turn_close="<|eot_id|>",
    stops=_LLAMA_STOPS,
)
_HERMES_4_14B = Dialect(
    name="hermes-4-14b",
    tool_role="user",
    default_system="You are Hermes, created by Nous Research.",
    tools_prompt=_TOOLS_PROMPT_4,
    dropped_think="<think> </think>",
    sampling=_CARD_4,
)
# One newline behind the assistant's header and two behind the others: so in the published 70B template.
_HERMES_4_70B = replace(
    _HERMES_4_14B,
    name="hermes-4-70b",
    bos="<|begin_of_text|>",
    turn_open="<|start_header_id|>{role}<|end_header_id|>\n",
    system_open=_LLAMA_OPEN,
    turn_close="<|eot_id|>",
    stops=_LLAMA_STOPS,
)

DIALECTS: dict[str, Dialect] = {
    d.name: d
    for d in (
        _CHATML,
        replace(_CHATML, name="json-mode", tools_prompt="", thinking_prompt=""),
        _HERMES_2_PRO,
        _HERMES_3,
        replace(
            _HERMES_3,
            name="hermes-3-scratch-pad",
            tools_prompt=_TOOLS_PROMPT_SCRATCH_PAD,
            thinking_prompt="",
            think_open="<scratch_pad>",
            think_close="</scratch_pad>",
        ),
        _DEEPHERMES_3,
        _HERMES_4_14B,
        _HERMES_4_70B,
        replace(_HERMES_4_70B, name="hermes-4-405b"),
        # Llama-3 headers although the base is Seed-OSS; "<think>", not "<seed:think>".
        replace(_HERMES_4_70B, name="hermes-4.3-36b", bos="<seed:bos>"),
        Dialect(
            name="qwen3",
            tool_role="user",
            thinking_prompt="",
            think_separator="\n\n",
            no_think="<think>\n\n</think>\n\n",
            keep_reasoning="last",
            sampling=_CARD_4,
        ),
    )
}
"""Every dialect by name."""


def dialect(name: str | Dialect, /, **overrides: Any) -> Dialect:
    """A dialect by name, with fields overridden.

    Args:
        name: One of ``DIALECTS``, or a dialect to start from.
        **overrides: Fields of `Dialect`.

    Raises:
        ConfigurationError: No dialect or field of that name.

    Example:
        >>> dialect("hermes-4-14b").tool_role
        'user'
        >>> dialect("hermes-3", tool_role="user").tool_role
        'user'
    """
    if isinstance(name, str):
        if name not in DIALECTS:
            raise ConfigurationError(f"unknown dialect {name!r}", hint=f"choose one of {', '.join(DIALECTS)}")
        name = DIALECTS[name]
    if unknown := overrides.keys() - {f.name for f in fields(Dialect)}:
        raise ConfigurationError(
            f"a dialect has no field {sorted(unknown)[0]!r}",
            hint=f"fields are {', '.join(f.name for f in fields(Dialect))}",
        )
    return replace(name, **overrides)


# First match wins. "Hermes-4-14B-FP8", "hermes4:70b", "NousResearch/Hermes-4.3-36B-GGUF" are all met in the wild.
_IDS: tuple[tuple[str, str], ...] = (
    (r"deep[-_ ]?hermes", "deephermes-3"),
    (r"hermes[-_ ]?4[._]3", "hermes-4.3-36b"),
    (r"hermes[-_ ]?4.*14b", "hermes-4-14b"),
    (r"hermes[-_ ]?4.*405b", "hermes-4-405b"),
    (r"hermes[-_ ]?4", "hermes-4-70b"),
    (r"hermes[-_ ]?3", "hermes-3"),
    (r"hermes[-_ ]?2[-_ ]?pro", "hermes-2-pro"),
    # Not Qwen3-Coder, Qwen3.5 and later ones: they call tools as <function=…><parameter=…>.
    (r"qwen[-_ ]?3(?!.*coder)(?![._]\d+(?!\d*b))", "qwen3"),
)


class _Tokenizer(Protocol):
    """What is asked of a Hugging Face tokenizer."""

    name_or_path: str
    chat_template: Any


def guess_dialect(model: str | _Tokenizer = "", *, chat_template: str | None = None, bos: str = "") -> Dialect:
    """The likeliest dialect of a model.

    Args:
        model: Its name on a hub, a server or a disk; or its tokenizer.
        chat_template: The Jinja template its tokenizer ships; decides the turn markup where the id tells
            nothing, and corrects it where the two disagree (re-uploads with the wrong template are common).
        bos: The tokenizer's BOS token, where the tokenizer adds one.

    Returns:
        A known dialect, its turn markup that of the template; plain ChatML when nothing tells. That also is for
        models that learnt to write calls as XML, such as Qwen3-Coder and Qwen3.5 (`calls_are_xml`): our prompt asks
        them for calls in JSON, which is what the grammar holds them to, though it is not what they practised.
    """
    if isinstance(model, str):
        model_id, shipped = model, None
    else:
        model_id, shipped = str(model.name_or_path), model.chat_template
    name = next((d for pattern, d in _IDS if re.search(pattern, model_id, re.IGNORECASE)), "")
    found = DIALECTS[name or "chatml"]
    template = chat_template or (shipped if isinstance(shipped, str) else "")
    if "<|start_header_id|>" in template and "<|im_start|>" not in template:
        headers = found if found.turn_close == "<|eot_id|>" else replace(
            found, turn_open=_LLAMA_OPEN, turn_close="<|eot_id|>", stops=_LLAMA_STOPS
        )  # fmt: skip
        found = headers
    elif "<|im_start|>" in template and found.turn_close == "<|eot_id|>":
        found = replace(
            found, turn_open=_CHATML.turn_open, system_open="", turn_close=_CHATML.turn_close, stops=_CHATML.stops
        )
    elif not name and "<tool_call>" in template and "<think>" in template and not calls_are_xml(template):
        found = DIALECTS["qwen3"]
    return replace(found, bos=bos) if bos else found


def calls_are_xml(chat_template: str) -> bool:
    """Whether a template asks for calls as XML inside the tags of Hermes, as those of Qwen3-Coder and Qwen3.5 do."""
    return "<tool_call>" in chat_template and "<function=" in chat_template
