from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from hermes_agent.cli.terminal import json_line
from hermes_agent.visible import UNSAFE, visible

ANY = st.text(st.characters(exclude_categories=[]))


@given(ANY)
def test_what_is_left_steers_nothing_and_can_be_written(text: str) -> None:
    assert not UNSAFE.search(visible(text))
    visible(text).encode()


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"], exclude_characters="\u200b")))
def test_ordinary_text_stays(text: str) -> None:
    assert visible(text + "\n\t\u200d") == text + "\n\t\u200d"


def test_escapes_are_those_of_python() -> None:
    assert visible("\x1b\u202e\U000e0041\ud800\r") == "\\x1b\\u202e\\U000e0041\\ud800"


@given(ANY)
def test_a_line_of_json_is_safe_and_means_the_same(text: str) -> None:
    line = json_line({"a": text})
    assert not UNSAFE.search(line)
    assert json.loads(line) == json.loads(json.dumps({"a": text}))
