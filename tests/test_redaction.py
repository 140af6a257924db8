from __future__ import annotations

import doctest
import importlib
import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hermes_agent.redaction import REMOVED, Redaction

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
        ("X-Api-Key: 0123abcd-ef\nHost: x", f"X-Api-Key: {REMOVED}\nHost: x"),
    ],
)
def test_headers_keep_their_name(text: str, clean: str) -> None:
    assert REDACTION.text(text) == clean


PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\n+/x==\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgresql+psycopg://app:s3cr@t@db.internal:5432/main", "postgresql+psycopg://app:{}@db.internal:5432/main"),
        ("Error 111 connecting to redis://:pass@cache:6379/0.", "Error 111 connecting to redis://:{}@cache:6379/0."),
        ("host=db user=app password=hun)ter dbname=x", "host=db user=app password={} dbname=x"),
        ("Server=db;User Id=sa;Password=p@ss!w0rd;Encrypt=no", "Server=db;User Id=sa;Password={};Encrypt=no"),
        ("GET https://x.org/a?page=2&access_token=abc.def&q=1", "GET https://x.org/a?page=2&access_token={}&q=1"),
        ("?sv=2022&sig=a%2Fb%3D&se=2024", "?sv=2022&sig={}&se=2024"),
        ("AccountName=x;AccountKey=abc+/def==;EndpointSuffix=y", "AccountName=x;AccountKey={};EndpointSuffix=y"),
        ("connect(user='me', password='two words', port=1)", "connect(user='me', password='{}', port=1)"),
        ("Client(api_key=abcdef)", "Client(api_key={})"),
        ('{"user": "me", "password": "a b \'c"}', '{"user": "me", "password": "{}"}'),
        ("input_value={'user': 'me', 'client_secret': 'abc def'}", "input_value={'user': 'me', 'client_secret': '{}'}"),
        ('"{\\"api_key\\": \\"abc\\"}"', '"{\\"api_key\\": \\"{}\\"}"'),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "AWS_SECRET_ACCESS_KEY={}"),
        ("the key AKIAIOSFODNN7EXAMPLE is not known", "the key {} is not known"),
        ("remote: https://ghp_abcdefghijklmnop@github.com/x", "remote: https://{}@github.com/x"),
        ("github_pat_11ABCDEFG0_abcdefgh", "{}"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_DEF expired", "jwt {} expired"),
        (f"bad key {PEM}!", "bad key -----BEGIN RSA PRIVATE KEY-----{}-----END RSA PRIVATE KEY-----!"),
        (f"bad key {PEM[:50]}", "bad key -----BEGIN RSA PRIVATE KEY-----{}"),
        (json.dumps({"pem": PEM}), '{"pem": "-----BEGIN RSA PRIVATE KEY-----{}-----END RSA PRIVATE KEY-----"}'),
    ],
)  # fmt: skip
def test_secrets_go_and_what_is_around_them_stays(text: str, clean: str) -> None:
    assert REDACTION.text(text) == clean.replace("{}", REMOVED)


ORDINARY = [
    'FATAL:  password authentication failed for user "app"',
    "TypeError: connect() missing 1 required positional argument: 'password'",
    "KeyError: 'token'",
    "Unexpected token < in JSON at position 0",
    "invalid token: expected '}' at line 3",
    "token=None, password=null, secret = True, api_key=''",
    "max_tokens=100 tokens: 30 tokenizer=Qwen/Qwen3-8B token_type='none' token=12",
    "password=*** api_key=<your key> url?token={token}",
    "secret: a story of two cities; the password is kept elsewhere",
    "PWD=/home/me",
    "see https://example.org:8080/a@b and mailto:me@example.org, 10:30@noon",
    "[Errno 111] Connect call failed ('127.0.0.1', 5432)",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "design=flat, signal=9, AKIA is a prefix, ghp_short and eyJ.a.b",
    "x-api-key: missing",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_messages_stay(text: str) -> None:
    assert REDACTION.text(text) == text


prose = st.sampled_from(
    ["the", "password", "token", "secret", "is", "wrong", "key", "api", "a", "for", "user", "42", "3.5", "x", "Basic"]
)


@given(
    st.lists(st.tuples(prose, st.sampled_from([" ", ", ", ". ", ": ", "; ", "\n", " - ", "/", "(", ") "])), max_size=20)
)
def test_prose_about_secrets_is_not_touched(words: list[tuple[str, str]]) -> None:
    text = "".join(part for pair in words for part in pair)
    assert REDACTION.text(text) == text


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
     " ", "\n", "0123", "sk", "-", "Authorization", ": ", "bearer ", "s", "abc-123", 'two words, "', "日本語", ".",
     "password", "=", "='", "'", "&", "://", "a:b", "@", "eyJhbGciOiJI.eyJz.", "AKIA0123456789ABCDEF", "None",
     "-----BEGIN PRIVATE KEY-----", "-----END", "token", ': "', "[removed]", "x-api-key: ", ")", ";", "?sig="]
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


def test_a_megabyte_is_looked_through_in_no_time() -> None:
    for text in (
        "password=" * 110_000,
        "://a:b@" * 140_000,
        "-----BEGIN PRIVATE KEY-----x" * 36_000,
        "'" * 10**6,
        "a" * 10**6,
    ):
        started = time.process_time()
        Redaction({}).text(text)
        assert time.process_time() - started < 5


def test_what_looks_like_a_secret_is_not_held_for_ever() -> None:
    assert REDACTION.settled("a" * 100_000) > 90_000
    assert REDACTION.settled("Some words. ") == len("Some words. ")
    assert REDACTION.settled("日本語の文章") == 6


@pytest.mark.parametrize("name", ["testing.recorder", "redaction", "models.fallback", "models.outlines"])
def test_the_examples_in_docstrings_run(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(f"hermes_agent.{name}"))
    assert (failed, tried > 0) == (0, True)
