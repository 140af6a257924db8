"""HTML to readable text in one pass: linear in the size of the page, whatever the page does.

The standard library's ``html.parser`` takes quadratic time on some malformed pages, and a fetched page is hostile
until shown otherwise; this reader keeps no tree and never searches the same text twice.
"""

from __future__ import annotations

import html
import re
from typing import Final
from urllib.parse import urljoin

__all__ = ["readable"]

_TAG: Final = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]{0,20})(?=[\s/>])")
_HREF: Final = re.compile(r"\shref\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))", re.IGNORECASE)
_ENTITY: Final = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});?")
_QUOTE: Final = re.compile("[\"']")
_SILENT: Final = frozenset({"script", "style", "template", "svg", "math", "iframe", "object", "select"})
_PARAGRAPH: Final = frozenset(
    {"p", "div", "section", "article", "header", "footer", "main", "nav", "aside", "ul", "ol", "dl", "table", "form"}
    | {"blockquote", "figure", "title", "body", "pre", "hr", "h1", "h2", "h3", "h4", "h5", "h6"}
)
_LINE: Final = frozenset({"br", "li", "tr", "dt", "dd", "option", "figcaption", "caption"})
_HREF_CHARS: Final = 4000


def readable(page: str, base: str) -> str:
    """Reduce an HTML page to its text, with headings, list items and links in Markdown.

    Example:
        >>> print(readable('<h1>Tea &amp; cake</h1><a href="/menu">Menu</a><script>x()</script>', "http://a.example"))
        # Tea & cake
        <BLANKLINE>
        [Menu](http://a.example/menu)

    Args:
        page: The page's HTML, however broken.
        base: The page's address, against which relative links are resolved.
    """
    return _Reader(page, base).text()


class _Reader:
    def __init__(self, page: str, base: str) -> None:
        self._page = page
        self._base = base
        self._lines: list[str] = []
        self._inline: list[str] = []
        self._link: str | None = None
        self._pre = False
        self._absent: set[str] = set()  # what was searched for and is not in the rest of the page

    def text(self) -> str:
        page, at = self._page, 0
        while (tag := self._find("<", at)) >= 0:
            self._say(page[at:tag])
            at = self._markup(tag)
        self._say(page[at:])
        self._close_link()
        self._break(blank=False)
        return "\n".join(self._lines).strip()

    def _find(self, needle: str, at: int) -> int:
        """Like ``str.find``, but what was once not found is never searched for again."""
        if needle in self._absent:
            return -1
        found = self._page.find(needle, at)
        if found < 0:
            self._absent.add(needle)
        return found

    def _markup(self, at: int) -> int:
        """Read what begins with the ``<`` at ``at``; returns where the text goes on."""
        page = self._page
        if page.startswith("<!--", at):
            end = self._find("-->", at + 4)
            return end + 3 if end >= 0 else len(page)
        tag = _TAG.match(page, at)
        if tag is None and not page.startswith(("<!", "<?", "</"), at):
            self._say("<")
            return at + 1
        end = self._end_of_tag(at)
        if end < 0:
            self._say("<")
            return at + 1
        if tag is not None:
            name = tag[2].lower()
            if name in _SILENT and not tag[1]:
                return self._after(name, end)
            self._tag(name, closing=bool(tag[1]), source=page[tag.end() : min(end, tag.end() + _HREF_CHARS)])
        return end

    def _end_of_tag(self, at: int) -> int:
        """Behind the ``>`` that closes the tag, which is not one inside a quoted attribute; -1 without one."""
        end = -1
        while True:
            if end < at:  # not on every round: many quotes before one far ">" must not be searched over and over
                end = self._find(">", at)
            if end < 0:
                return -1
            quote = _QUOTE.search(self._page, at, end)
            if quote is None:
                return end + 1
            closing = self._find(quote[0], quote.end())
            if closing < 0:
                return end + 1
            at = closing + 1

    def _after(self, name: str, at: int) -> int:
        if name in self._absent:
            return len(self._page)
        closing = re.compile(f"</{name}[^>]*>?", re.IGNORECASE).search(self._page, at)
        if closing is None:
            self._absent.add(name)
            return len(self._page)
        return closing.end()

    def _tag(self, name: str, *, closing: bool, source: str) -> None:
        if name == "a":
            self._close_link()
            if not closing:
                self._open_link(source)
        elif name in _PARAGRAPH:
            self._break(blank=True)
            self._pre = name == "pre" and not closing
            if not closing and name[0] == "h" and name[1:].isdigit():
                self._inline.append("#" * int(name[1]) + " ")
        elif name in _LINE:
            self._break(blank=False)
            if name == "li" and not closing:
                self._inline.append("- ")
        elif name in {"td", "th"} and closing:
            self._inline.append("  ")

    def _open_link(self, source: str) -> None:
        href = _HREF.search(source)
        if href is None:
            return
        try:
            link = urljoin(self._base, _unescape(href[1] or href[2] or href[3] or "").strip())
        except ValueError:  # such as an unclosed bracket in the host
            return
        if link.startswith(("http://", "https://")) and len(link) <= 2000:
            self._link = link
            self._inline.append("[")

    def _close_link(self) -> None:
        if self._link is not None:
            self._inline.append(f"]({self._link})")
            self._link = None

    def _say(self, text: str) -> None:
        if not text:
            return
        text = _unescape(text)
        if not self._pre:
            self._inline.append(text)
            return
        first, *others = text.split("\n")
        self._inline.append(first)
        for line in others:
            self._lines.append("".join(self._inline))
            self._inline = [line]

    def _break(self, *, blank: bool) -> None:
        line = "".join(self._inline)
        line = line.rstrip() if self._pre else " ".join(line.split())
        self._inline = []
        if line and line != "-":
            self._lines.append(line)
        if blank and self._lines and self._lines[-1]:
            self._lines.append("")


def _unescape(text: str) -> str:
    # ``html.unescape`` fails on numbers of thousands of digits; the pattern keeps them from it.
    return _ENTITY.sub(lambda match: html.unescape(match[0]), text) if "&" in text else text
