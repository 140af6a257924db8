from __future__ import annotations

import doctest
import importlib
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hermes_agent.testing.redaction import REMOVED, Redaction

KEY = "abc-123-xyz"
SPACED = 'two words, "quoted" \\ ä'
ENVIRONMENT = {
    "NOUS_API_KEY": KEY,
    "GITHUB_TOKEN": "ghp_0123456789",
    "CLIENT_SECRET_ID": SPACED,
    "DB_PASSWORD": "hunter22",
    "TOKENIZERS_PARALLELISM": "falsehood",
    "MAX_TOKENS": "1000000",
    "USE_TOKENS": "true",
    "SHORT_API_KEY": "abc",
    "PATH": "/usr/local/bin",
}
REDACTION = Redaction(ENVIRONMENT)


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        "ghp_0123456789",
        "hunter22",
        SPACED,
        json.dumps(SPACED)[1:-1],
        json.dumps(SPACED, ensure_ascii=False)[1:-1],
        "sk-proj-0123456789abcdef",
        "hf_abcdefghijklmnopqrstuvwxyz",
    ],
)
def test_secrets_are_removed_wherever_they_stand(text: str) -> None:
    assert REDACTION.text(text) == REMOVED
    assert REDACTION.text(f"before {text} after") == f"before {REMOVED} after"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Authorization: Bearer topsecret", f"Authorization: Bearer {REMOVED}"),
        ('{"authorization": "Basic dXNlcjpwYXNz"}', f'{{"authorization": "Basic {REMOVED}"}}'),
        ("-H 'Authorization: Bearer $weird%key' -d x", f"-H 'Authorization: Bearer {REMOVED}' -d x"),
        ("use bearer abcdef123456 now", f"use bearer {REMOVED} now"),
    ],
)
def test_headers_keep_their_name(text: str, clean: str) -> None:
    assert REDACTION.text(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "the bearer certificates of the task-management-system",
        "risk-assessments and ask-me-anything-2024",
        "falsehood 1000000 true abc /usr/local/bin",
        "Authorization: none",
        "a sk- and sk-short",
    ],
)
def test_harmless_text_stays(text: str) -> None:
    assert REDACTION.text(text) == text


def test_the_environment_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "quite-unguessable")
    assert Redaction().text("quite-unguessable") == REMOVED


words = st.sampled_from(
    [KEY, "ghp_0123456789", SPACED, "sk-0123456789", "Authorization: Bearer s3cret!x", "Bearer abcdefgh1", "the key is",
     " ", "\n", "0123", "sk", "-", "Authorization", ": ", "bearer ", "s", "abc-123", 'two words, "', "日本語", "."]
)  # fmt: skip
texts = st.lists(words, max_size=8).map("".join)


@given(texts)
@example("abc-123-xyzsk-0123456789")
@example("Bearer 0123Bearer ")
def test_what_is_clean_stays_clean(text: str) -> None:
    clean = REDACTION.text(text)
    assert REDACTION.text(clean) == clean
    for secret in (KEY, "ghp_0123456789", SPACED):
        assert secret not in clean


@given(texts, st.data())
def test_pieces_of_a_text_are_cleaned_as_the_whole(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    cleaned = REDACTION.pieces(pieces)
    assert len(cleaned) == len(pieces)
    assert "".join(cleaned) == REDACTION.text(text)


@given(texts, texts)
def test_what_is_settled_stays_as_it_is_judged(text: str, later: str) -> None:
    """Written down up to that place, no later text can show that it was half of a secret."""
    place = REDACTION.settled(text)
    early = REDACTION.pieces([text[:place], text[place:]])[0]
    final = REDACTION.pieces([text[:place], text[place:] + later])[0]
    assert early == final


def test_what_looks_like_a_secret_is_not_held_for_ever() -> None:
    assert REDACTION.settled("a" * 100_000) > 90_000
    assert REDACTION.settled("Some words. ") == len("Some words. ")
    assert REDACTION.settled("日本語の文章") == 6


@pytest.mark.parametrize("name", ["testing.recorder", "testing.redaction", "models.fallback", "models.outlines"])
def test_the_examples_in_docstrings_run(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(f"hermes_agent.{name}"))
    assert (failed, tried > 0) == (0, True)
