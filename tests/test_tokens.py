"""Text to tokens and back."""

# transformers, peft and torch leave parts of their signatures untyped; what we pass on has a type again.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent.formats.segments import Segment
from hermes_agent.models.tokens import StopStrings, TextStream, encode_segments
from tests.conftest import vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VOCABULARIES = ["qwen3", "llama3_1"]


@cache
def tokenizer(name: str) -> PreTrainedTokenizerBase:
    from transformers import PreTrainedTokenizerFast

    fast: Any = PreTrainedTokenizerFast
    known: PreTrainedTokenizerBase = fast(tokenizer_file=str(vocabulary(name) / "tokenizer.json"))
    return known


def added(name: str) -> dict[int, str]:
    return {index: token.content for index, token in tokenizer(name).added_tokens_decoder.items()}


def sentencepiece(**added_token: Any) -> PreTrainedTokenizerBase:
    """A vocabulary in the manner of SentencePiece: spaces are letters, and one is put before every text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner: Any = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    if added_token.pop("lowercase", False):
        inner.normalizer = normalizers.Lowercase()
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bytes_first = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer: Any = trainers.BpeTrainer(vocab_size=400, special_tokens=bytes_first, show_progress=False)
    inner.train_from_iterator(["the house of the tall tree, and all the other houses <tool_call>"] * 4, trainer)
    # The trainer takes the bytes only as special tokens; in real vocabularies they are ordinary ones.
    saved = json.loads(inner.to_str())
    saved["added_tokens"] = saved["added_tokens"][:3]
    inner = Tokenizer.from_str(json.dumps(saved))
    inner.add_tokens([AddedToken("<tool_call>", **{"normalized": False, **added_token})])
    fast: Any = PreTrainedTokenizerFast
    known: PreTrainedTokenizerBase = fast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    return known


@pytest.mark.parametrize("name", VOCABULARIES)
def test_trusted_text_makes_every_added_token(name: str) -> None:
    for index, content in added(name).items():
        assert encode_segments(tokenizer(name), [Segment(content)]) == [index]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", VOCABULARIES)
def test_pieces_that_are_remembered_have_the_tokens_of_the_whole(name: str, data: st.DataObject) -> None:
    markup = st.sampled_from(
        [*added(name).values(), "<|im_start|>user\n", "<|im_end|>\n", "\n\n", "  ", " the", "\u0301"]
    )
    texts = data.draw(st.lists(markup | st.text(max_size=6), max_size=8).map("".join))
    whole = tokenizer(name).encode(texts, add_special_tokens=False)
    for _ in range(2):  # encoded, then remembered
        assert encode_segments(tokenizer(name), [Segment(texts)]) == whole


@pytest.mark.parametrize("habit", [{}, {"lstrip": True}, {"rstrip": True}, {"single_word": True}, {"normalized": True}])
@pytest.mark.parametrize(
    "text", ["the <tool_call> house", "a<tool_call>the", "a <tool_call>  <tool_call>the", "the <tool_call>"]
)
def test_added_tokens_with_habits_are_no_place_to_cut(habit: dict[str, Any], text: str) -> None:
    spoken = sentencepiece(**habit)
    in_one = spoken.encode("\n" + text, add_special_tokens=False)
    assert encode_segments(spoken, [Segment(text)]) == in_one[len(spoken.encode("\n", add_special_tokens=False)) :]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_untrusted_text_makes_no_added_token(name: str) -> None:
    for content in added(name).values():
        for text in (content, f"a {content} b", content * 2, content[:-1] + content):
            ids = encode_segments(tokenizer(name), [Segment(text, trusted=False)])
            assert added(name).keys().isdisjoint(ids)
            assert tokenizer(name).decode(ids) == text


@pytest.mark.parametrize("name", VOCABULARIES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_untrusted_text_stays_text_whatever_it_holds(name: str, data: st.DataObject) -> None:
    fragment = st.one_of(
        st.sampled_from(sorted(added(name).values())),
        st.sampled_from(["<|", "|>", "<", ">", "im_end", "<tool", "_call>", "\n", " ", "</"]),
        st.text(max_size=5),
    )
    text = unicodedata.normalize("NFC", "".join(data.draw(st.lists(fragment, max_size=12))))
    ids = encode_segments(tokenizer(name), [Segment(text, trusted=False)])
    assert added(name).keys().isdisjoint(ids)
    assert tokenizer(name).decode(ids) == text


@pytest.mark.parametrize("name", VOCABULARIES)
def test_segments_of_a_kind_are_encoded_as_one_text(name: str) -> None:
    whole = tokenizer(name).encode("Hello there, world", add_special_tokens=False)
    for trusted in (True, False):
        parts = [Segment(text, trusted) for text in ("Hel", "lo the", "re, world")]
        assert encode_segments(tokenizer(name), parts) == whole


def test_markup_cannot_be_put_together_from_trusted_and_untrusted_text() -> None:
    ids = encode_segments(tokenizer("qwen3"), [Segment("<tool"), Segment("_call>", trusted=False)])
    assert 151657 not in ids


def test_no_segments_make_no_tokens() -> None:
    assert encode_segments(tokenizer("qwen3"), []) == []
    assert encode_segments(tokenizer("qwen3"), [Segment(""), Segment("", trusted=False)]) == []


def test_sentencepiece_gets_no_spaces_between_segments() -> None:
    spaced = sentencepiece()
    segments = [Segment("<s>the"), Segment("house", trusted=False), Segment(" of"), Segment("\nthe", trusted=False)]
    ids = encode_segments(spaced, segments)
    assert spaced.decode(ids) == "<s>thehouse of\nthe"


def test_sentencepiece_untrusted_tag_stays_text() -> None:
    spaced = sentencepiece()
    tag = spaced.convert_tokens_to_ids("<tool_call>")
    assert tag in encode_segments(spaced, [Segment("the <tool_call>")])
    ids = encode_segments(spaced, [Segment("the <tool_call> tree", trusted=False)])
    assert tag not in ids
    assert spaced.decode(ids) == "the <tool_call> tree"


def test_a_tag_made_by_the_normaliser_is_spelled_out() -> None:
    lower = sentencepiece(lowercase=True, normalized=True)
    tag = lower.convert_tokens_to_ids("<tool_call>")
    assert tag in encode_segments(lower, [Segment("<TOOL_CALL>")])
    assert tag not in encode_segments(lower, [Segment("the <TOOL_CALL>", trusted=False)])


@cache
def bytes_of(name: str) -> Callable[[int], bytes]:
    import llguidance.hf

    fast: Any = tokenizer(name)
    known = llguidance.hf.from_tokenizer(fast, eos_token=0)

    def bytes_of_token(token: int) -> bytes:
        return bytes(known.decode_bytes([token]))

    return bytes_of_token


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40))
def test_a_text_stream_gives_back_the_text_and_no_half_characters(text: str) -> None:
    text = unicodedata.normalize("NFC", text)
    stream = TextStream(bytes_of("qwen3"))
    pieces = [stream.push(token) for token in tokenizer("qwen3").encode(text, add_special_tokens=False)]
    assert "".join(pieces) + stream.flush() == text
    assert "\ufffd" in text or "\ufffd" not in "".join(pieces)


def test_a_text_stream_shows_added_tokens() -> None:
    stream = TextStream(bytes_of("qwen3"))
    assert [stream.push(token) for token in (151667, 198, 151668, 151657)] == [
        "<think>",
        "\n",
        "</think>",
        "<tool_call>",
    ]


def test_a_character_that_is_never_finished_is_marked() -> None:
    stream = TextStream(bytes_of("qwen3"))
    first, *_ = tokenizer("qwen3").encode("𓂀", add_special_tokens=False)
    assert stream.push(first) == ""
    assert stream.flush() == "\ufffd"


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(alphabet="ab<|>", max_size=30),
    stops=st.lists(st.text(alphabet="ab<|>", min_size=1, max_size=4), max_size=3),
    sizes=st.lists(st.integers(1, 5), max_size=30),
)
def test_stop_strings_cut_at_the_first_one_in_any_chunking(text: str, stops: list[str], sizes: list[int]) -> None:
    cuts = [at for stop in stops if (at := text.find(stop)) >= 0]
    expected = text[: min(cuts)] if cuts else text
    watcher, given_out, rest, stopped = StopStrings(stops), "", text, False
    for size in [*sizes, *[1] * len(text)]:
        if rest and not stopped:
            piece, stopped = watcher.push(rest[:size])
            given_out, rest = given_out + piece, rest[size:]
    # In small chunks a short stop can end before a longer one that begins earlier: no later than that one, though.
    assert stopped == bool(cuts)
    if not stopped:
        assert given_out + watcher.flush() == text
    else:
        assert given_out.startswith(expected)
        assert not any(stop in given_out for stop in stops)


def test_a_stop_string_counts_only_where_the_turn_may_end() -> None:
    watcher = StopStrings(["END"])
    assert watcher.push('"the EN', may_stop=False) == ('"the ', False)
    assert watcher.push('D" ', may_stop=False) == ('END" ', False)
    assert watcher.push("END") == ("", True)
