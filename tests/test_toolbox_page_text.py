from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent.toolbox.page_text import readable

BASE = "http://a.example/dir/page"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("plain", "plain"),
        ("<title>T</title><body><p>one<p>two", "T\n\none\n\ntwo"),
        ("a<br>b<BR/>c", "a\nb\nc"),
        ("<h1>Top</h1>x<h3>Low</h3>y", "# Top\n\nx\n\n### Low\n\ny"),
        ("<ul><li>one<li>two</ul>end", "- one\n- two\n\nend"),
        ("<tr><td>a</td><td>b</td></tr><tr><td>c", "a b\nc"),
        ("<pre>\ndef f():\n    return 1\n</pre>", "def f():\n    return 1"),
        ("x <b>bold</b>\n  and\tmore", "x bold and more"),
        ("<script>if (a < b) {}</script >y", "y"),
        ("<STYLE>p {}</style>z<template><p>hidden</template>", "z"),
        ("<script>never closed", ""),
        ("a <!-- b <p> --> c", "a c"),
        ("a <!-- never closed", "a"),
        ("<!DOCTYPE html><?xml?>a", "a"),
        ("1 < 2 && 3 > 2 <3", "1 < 2 && 3 > 2 <3"),
        ("&lt;b&gt; &amp; &eacute; &#233; &#xe9; &nope; &", "<b> & é é é &nope; &"),
        ("&#" + "9" * 5000 + ";", "\N{REPLACEMENT CHARACTER}" + "9" * 4993 + ";"),
        ('<img alt="a>b">after', "after"),
        ("<a href='../x?a=1&amp;b=2'>go <i>on</i></a>.", "[go on](http://a.example/x?a=1&b=2)."),
        ("<a href=/y>one<a href=/z>two", "[one](http://a.example/y)[two](http://a.example/z)"),
        ("<a href='javascript:x()'>no</a> <a name=b>c</a> <a href='http://[bad'>d</a>", "no c d"),
        ("<p>unclosed <b", "unclosed <b"),
    ],
)
def test_what_is_left_of_a_page(page: str, text: str) -> None:
    assert readable(page, BASE) == text


@pytest.mark.parametrize(
    "piece",
    [
        "<",
        "<a",
        "<a ",
        "<!--",
        "</",
        "<!",
        "&",
        "&#9",
        '<a href="',
        "<a b='>",
        "<script>",
        "<pre>\n",
        "<p>",
        "<li>",
        '<a "">',
    ],
)
def test_hostile_pages_take_linear_time(piece: str) -> None:
    begin = time.process_time()
    readable(piece * (300_000 // len(piece)), BASE)
    readable("<a " + piece * (300_000 // len(piece)) + ">", BASE)
    assert time.process_time() - begin < 5


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["<", ">", "</", "a", " href=", '"', "'", "<!--", "-->", "<pre>", "<script>", "</script>", "&#", ";"]
        )
        | st.text(max_size=5),
        max_size=30,
    ).map("".join)
)
def test_any_page_can_be_read(page: str) -> None:
    text = readable(page, BASE)
    assert text == text.strip()


@given(st.text(alphabet=st.characters(exclude_characters="<&")))
def test_text_without_markup_stays_as_it_is(text: str) -> None:
    assert readable(text, BASE) == " ".join(text.split())
