from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent.errors import ConfigurationError
from hermes_agent.limits import Usage
from hermes_agent.messages import AssistantMessage, SystemMessage, ToolCall, ToolMessage, UserMessage
from hermes_agent.record import (
    AnswerRejected,
    CallBegan,
    CallEnded,
    CallSettled,
    HistoryShortened,
    Record,
    RunBegan,
    RunEnded,
    TurnBegan,
    TurnWritten,
)
from hermes_agent.trace import Trace, markup
from hermes_agent.trace.markup import Html, element, text
from hermes_agent.turn import CallPart, Fault, TextPart, Turn
from hermes_agent.visible import visible
from tests.browser import Browser
from tests.traced_runs import START, killed_run, settled_run, waiting_run, whole_run

OWNED = "document.title='owned'"
HOSTILE = (
    f"<script>{OWNED}</script>",
    f'"><img src=x onerror="{OWNED}">',
    f'\'><svg onload="{OWNED}">',
    f"</pre></details></code></script></style></title><script>{OWNED}</script>",
    f'<a href="javascript:{OWNED}">click</a> <iframe srcdoc="<script>{OWNED}</script>"></iframe>',
    "<!-- <style>*{display:none}</style> <link rel=stylesheet href=http://127.0.0.1:9/x.css>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'> <base href=http://127.0.0.1:9/>",
    "<![CDATA[ ]]> <plaintext> <textarea> <noscript> <template>",
    "nul \x00 escape \x1b[2J bell \x07 c1 \x9b31m delete \x7f",
    "bidi \u202e evil \u2066 zero\u200bwidth \ufeff tags \U000e0041\U000e0042 lone \ud800 \udfff end",
    "&lt;script&gt; &#60; &amp; \\u003cscript\\u003e {{7*7}} ${7*7} `x`",
    "\r\nlines\rof\u2028all\u2029kinds\x85\x0b\x0c",
)
EVERYTHING = " ".join(HOSTILE)
LARGE = ("<script>document.title='owned'</script> 0123456789" * 20_000) + "THE-END"


def hostile_runs(bad: str, large: str = "") -> dict[str, Sequence[Record]]:
    """A run in which everything that can be a text is this one."""
    key = f"r/{bad}"
    calls = tuple(
        ToolCall(bad, {bad: bad, "nested": {bad: [bad, None]}, "large": large or bad}, f"c{bad}{i}", bad, (bad,))
        for i in range(3)
    )
    fault = Fault("malformed", (0, 1), bad, bad, bad)
    turn = Turn(
        (TextPart(bad, (0, 1)), *(CallPart(call, (0, 1)) for call in calls), fault), bad, raw=bad, thinking="whole"
    )
    messages = (
        SystemMessage(bad),
        UserMessage(bad),
        AssistantMessage(bad, bad, calls[:1]),
        ToolMessage(bad, bad, bad, is_error=True),
    )
    records: list[Record] = [
        RunBegan(bad, messages, bad, bad, bad, START),
        HistoryShortened(1, messages, Usage(1, 1), START),
        TurnBegan(1, bad + "2", bad + "2", bad, START),
        TurnWritten(1, turn, "length", Usage(1, 1, 1), bad, START + 1),
        CallBegan(calls[0], START + 1),
        CallEnded(
            calls[0].id,
            ToolMessage(bad, bad, calls[0].id, is_error=True),
            1.0,
            ran=True,
            error=bad,
            hand_off=bad,
            at=START + 2,
        ),
        CallSettled(calls[1].id, "denied", bad, START + 2),
        CallEnded(calls[1].id, ToolMessage(large or bad, bad, calls[1].id), at=START + 2),
        CallBegan(calls[2], START + 1),
        AnswerRejected(1, bad, START + 2),
        RunEnded(bad, bad, START + 3),
    ]
    inner: list[Record] = [RunBegan(bad, (), bad, bad, "token", START + 1), TurnBegan(1, bad, bad, bad, START + 1)]
    return {key: records, f"{key}/{calls[2].id}": inner}


def hostile(bad: str, large: str = "") -> Trace:
    runs = hostile_runs(bad, large)
    return Trace.of(next(iter(runs)), runs)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Generator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def saved(trace: Trace, folder: Path) -> Path:
    file = folder / "trace.html"
    file.write_text(trace.to_html(), encoding="utf-8", newline="\n")
    return file


# In the browser


@pytest.mark.parametrize("bad", [*HOSTILE, EVERYTHING], ids=[*(f"hostile{i}" for i in range(len(HOSTILE))), "all"])
def test_nothing_runs_nothing_is_fetched_and_all_is_seen(bad: str, browser: Browser, tmp_path: Path) -> None:
    file = saved(hostile(bad), tmp_path)
    with browser.page(file) as page:
        assert page.fetched == [file.as_uri()]
        assert not page.told("Page.javascriptDialogOpening", "Runtime.exceptionThrown", "Audits.issueAdded")
        assert page.value("document.title") != "owned"
        assert (
            page.value("document.querySelectorAll('script, img, iframe, link, base, object, embed, form').length") == 0
        )
        assert page.value("document.querySelectorAll('meta').length") == 5
        assert page.value("document.querySelectorAll('style').length") == 1
        assert page.value("[...document.querySelectorAll('a')].every(a => a.getAttribute('href').startsWith('#'))")
        assert page.value(
            "[...document.querySelectorAll('*')].every(e => [...e.attributes].every(a => !a.name.startsWith('on')))"
        )
        # Every text is on the page, whole: escapes stand for what cannot be shown, and line ends are line ends.
        shown = cast("str", page.value("document.body.textContent"))
        wanted = visible(bad.replace("\r\n", "\n").replace("\r", "\\x0d"))
        assert shown.count(wanted) >= 20
        assert (
            page.value("document.title") == visible(f"Run r/{bad}".replace("\r\n", "\n").replace("\r", "\\x0d"))
            or "\n" in wanted
        )
        for label in ("Prompt", "Error", "Grammar", "Thinking"):
            assert label in shown


def test_without_escaping_the_policy_still_holds_and_the_test_sees_it(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second wall: even where markup gets in, nothing runs and nothing is loaded."""
    monkeypatch.setattr(markup, "text", Html)
    file = saved(
        hostile("".join(HOSTILE[:2]) + "<img src='http://127.0.0.1:9/x.png'><style>body{display:none}</style>"),
        tmp_path,
    )
    with browser.page(file) as page:
        assert page.value("document.querySelectorAll('script').length") > 0  # it is in
        assert page.value("document.title") != "owned"  # and does not run
        assert page.value("getComputedStyle(document.body).display") == "block"
        blocked = page.told("Network.loadingFailed")
        assert len(page.fetched) - len(blocked) == 1
        assert {failed.get("blockedReason") for failed in blocked} <= {"csp"}


def test_without_either_the_page_is_owned(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the two tests above would see if neither wall stood."""
    monkeypatch.setattr(markup, "text", Html)
    source = hostile(HOSTILE[0]).to_html()
    file = tmp_path / "open.html"
    file.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", source), encoding="utf-8")
    with browser.page(file) as page:
        assert page.value("document.title") == "owned"


def test_large_values_are_folded_and_whole(browser: Browser, tmp_path: Path) -> None:
    file = saved(hostile("a small one", LARGE), tmp_path)
    with browser.page(file) as page:
        assert page.fetched == [file.as_uri()]
        folded = "[...document.querySelectorAll('details.large')]"
        assert page.value(f"{folded}.length") >= 4
        assert page.value(f"{folded}.every(d => !d.open && d.querySelector('pre').textContent.includes('THE-END'))")
        assert page.value(f"{folded}.some(d => d.querySelector('pre').textContent.length === {len(LARGE)})")
        summaries = f"{folded}.map(d => d.querySelector('summary').textContent)"
        assert any(f"{len(LARGE):,} characters" in summary for summary in cast("list[str]", page.value(summaries)))
        assert cast("float", page.value("document.documentElement.scrollHeight")) < 8000
        assert page.value("document.documentElement.scrollWidth <= innerWidth")


def test_names_that_are_large_are_folded_too_or_cut_in_sight(browser: Browser, tmp_path: Path) -> None:
    """A model may write a megabyte where the name of a tool should stand."""
    with browser.page(saved(hostile(LARGE), tmp_path)) as page:
        assert cast("float", page.value("document.documentElement.scrollHeight")) < 12_000
        assert page.value("[...document.querySelectorAll('.call > h3')].every(h => h.textContent.includes('THE-END'))")
        assert page.value("[...document.querySelectorAll('th')].some(h => h.textContent.includes('THE-END'))")
        assert page.value("document.querySelector('header').textContent.includes('THE-END')")
        assert page.fetched == [(tmp_path / "trace.html").as_uri()]


def test_keys_reach_and_open_all_that_is_folded(browser: Browser, tmp_path: Path) -> None:
    run = whole_run()
    with browser.page(saved(Trace.of("run-1", run), tmp_path)) as page:
        for _ in range(40):
            page.press("Tab", 9)
            page.value("document.activeElement.dataset.reached = 'yes'")
        in_sight = (
            "[...document.querySelectorAll('a, summary')].filter(e => e.checkVisibility({contentVisibilityAuto: true}))"
        )
        assert cast("int", page.value(f"{in_sight}.length")) > 20
        assert page.value(f"{in_sight}.filter(e => !e.dataset.reached).map(e => e.textContent)") == []
        page.value("document.querySelector('.thinking > summary').focus()")
        assert page.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.press("Enter", 13)
        assert page.value("document.querySelector('.thinking').open") is True
        # A link of the time line opens what its step is folded in.
        page.value("document.querySelector('.depth3').click()")
        assert page.value("document.querySelector('.inner').open") is True


def contrast_of(page: Any) -> float:
    """The least contrast of any text with what is behind it, as WCAG 2 computes it."""
    return cast(
        "float",
        page.value(
            """(() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126*r + 0.7152*g + 0.0722*b }
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor
      if (c !== 'rgba(0, 0, 0, 0)') return c } return 'rgb(255, 255, 255)' }
  let least = 21
  for (const e of document.body.querySelectorAll('*')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x)
    least = Math.min(least, (a + 0.05) / (b + 0.05))
  }
  return least })()"""
        ),
    )


@pytest.mark.parametrize("media", ["screen", "print"])
@pytest.mark.parametrize("dark", [False, True])
def test_all_text_can_be_read_in_light_and_dark_and_on_paper(
    dark: bool, media: str, browser: Browser, tmp_path: Path
) -> None:
    for run_id, runs in (("run-1", whole_run()), ("run-3", killed_run())):
        with browser.page(saved(Trace.of(run_id, runs), tmp_path), dark=dark, media=media) as page:
            assert contrast_of(page) >= 4.5
            if media == "print":
                assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_on_paper_thoughts_are_printed(browser: Browser, tmp_path: Path) -> None:
    with browser.page(saved(Trace.of("run-1", whole_run()), tmp_path), media="print") as page:
        assert (
            page.value("document.querySelector('.thinking pre').checkVisibility({contentVisibilityAuto: true})") is True
        )
        assert cast("float", page.value("document.querySelector('.thinking pre').getBoundingClientRect().height")) > 10
        assert page.pdf().startswith(b"%PDF")


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_nothing_sticks_out(width: int, browser: Browser, tmp_path: Path) -> None:
    for trace in (Trace.of("run-1", whole_run()), hostile("unbroken" * 60)):
        with browser.page(saved(trace, tmp_path), width=width) as page:
            page.value("document.querySelectorAll('details').forEach(d => d.open = true)")
            assert page.value("document.documentElement.scrollWidth") <= width


def test_bars_lie_on_one_axis(browser: Browser, tmp_path: Path) -> None:
    with browser.page(saved(Trace.of("run-2", settled_run()), tmp_path)) as page:
        boxes = cast(
            "list[list[float]]",
            page.value(
                "[...document.querySelectorAll('.bars li')]"
                ".map(li => [li.querySelector('svg'), li.querySelector('rect')].map(e => e.getBoundingClientRect()))"
                ".map(([s, r]) => [(r.left - s.left) / s.width, r.width / s.width])"
            ),
        )
        assert all(left >= -0.001 and left + width <= 1.001 and width > 0.003 for left, width in boxes)
        assert "2 d 23 h in which nothing happened" in cast("str", page.value("document.body.textContent"))
        assert max(width for _, width in boxes) > 0.3  # three days of waiting do not hide two seconds of work


# Without a browser


class Reader(HTMLParser):
    """What a parser sees: tags, and text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, Mapping[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "rect", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(source: str) -> Reader:
    reader = Reader()
    reader.feed(source)
    reader.close()
    assert not reader.open
    return reader


def test_the_page_of_every_kind_of_run_is_well_formed_and_loads_nothing() -> None:
    for run_id, runs in (
        ("run-1", whole_run()),
        ("run-2", waiting_run()),
        ("run-2", settled_run()),
        ("run-3", killed_run()),
    ):
        page = Trace.of(run_id, runs).to_html()
        reader = read(page)
        anchors = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
        assert len(anchors) == len(set(anchors))
        links = [attributes["href"] for _, attributes in reader.tags if "href" in attributes]
        assert links
        assert {str(link)[1:] for link in links} <= set(anchors)
        assert "http://" not in page
        assert "url(" not in page
        assert "default-src 'none'" in page


def test_words_that_a_reader_looks_for() -> None:
    shown = "".join(read(Trace.of("run-1", whole_run()).to_html()).texts)
    for wanted in (
        "answered", "clerk", "agents inside of tools included", "hf:Qwen/Qwen3-4B", "Do I need a coat in Oslo?",
        "Two tools help.", "refused, not run",
        "There is no tool 'wether'.", "TimeoutError: no answer from archive.example", "promised: token",
        "5,002 in, 247 out", "Please answer again.", "Agent researcher", "No rain is expected.", '"yes" | "no"',
        "2 earlier messages", "Good morning.", "shown 1 message of the conversation", "Same grammar as the step before",
    ):  # fmt: skip
        assert wanted in shown, wanted
    broken = "".join(read(Trace.of("run-3", killed_run()).to_html()).texts)
    for wanted in (
        "unfinished",
        "No end of this turn is recorded.",
        "begun 2 times",
        "begun, no result recorded",
        "no end",
    ):
        assert wanted in broken, wanted


def kinds(reader: Reader) -> list[str]:
    return [tag for tag, _ in reader.tags if tag not in ("i", "p", "pre")]


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=[]), max_size=40))
def test_any_text_is_text(bad: str) -> None:
    reader = read(hostile(bad).to_html())
    plain = read(hostile("x").to_html())
    if bad.strip() and "\n" not in bad:  # an empty text is said to be empty
        assert kinds(reader) == kinds(plain)
    hostile(bad).to_html().encode()  # no half of a surrogate pair is left


def test_markup_is_made_of_elements_alone() -> None:
    assert text("<b>&\"'`").source == "&lt;b&gt;&amp;&quot;&#39;&#96;"
    assert element("p", "<b>", Html("<b>"), None).source == "<p>&lt;b&gt;<b></p>"
    assert element("pre", "\nfirst").source == "<pre>\n\nfirst</pre>"
    assert 'class="&quot;&gt;\\x00"' in element("p", class_='">\0').source
    with pytest.raises(ValueError, match="no place on this page"):
        element("script")
    with pytest.raises(ValueError, match="no place on this page"):
        element("p", attributes={"onclick": "x"})
    with pytest.raises(ValueError, match="leaves the page"):
        element("a", attributes={"href": "javascript:x"})


def test_a_page_of_a_run_that_is_wrong_is_no_page() -> None:
    with pytest.raises(ConfigurationError, match="no run 'other'"):
        Trace.of("other", whole_run())
    first = replace(cast("RunBegan", whole_run()["run-1"][0]), at=0.0)
    assert "Began" not in "".join(read(Trace.of("r", {"r": [first]}).to_html()).texts)
