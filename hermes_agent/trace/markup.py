"""HTML put together from values: a plain string can only become text.

There is no way from a string to markup but `element`, which escapes its content and its attributes; what it returns is
the only thing that is taken in as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hermes_agent.visible import UNSAFE, escape

__all__ = ["Html", "document", "element", "fragment", "text"]

_SPECIAL = re.compile(f"[&<>\"'`]|{UNSAFE.pattern}")
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;", "`": "&#96;"}

# Elements and attributes that cannot run or fetch anything, whatever is put into them; `href` is held to this page.
_ELEMENTS = {
    *("a", "article", "code", "dd", "details", "div", "dl", "dt", "h1", "h2", "h3", "header", "li", "main", "ol", "p"),
    *("pre", "section", "span", "strong", "summary", "table", "tbody", "td", "th", "time", "tr", "ul"),
    *("svg", "rect", "line"),
}
_EMPTY = {"rect", "line"}
_ATTRIBUTES = {
    *("aria-hidden", "class", "datetime", "height", "href", "id", "open", "rx", "scope", "width"),
    *("x", "x1", "x2", "y", "y1", "y2"),
}


@dataclass(frozen=True, slots=True)
class Html:
    """Markup that `element` made."""

    source: str


Child = Html | str | None


def text(value: str) -> Html:
    """A string as text; characters that could hide or turn it are shown as escapes of their own look."""
    return Html(_SPECIAL.sub(_written, value.replace("\r\n", "\n")))


def _written(match: re.Match[str]) -> str:
    character = match[0]
    return _NAMED.get(character) or f'<i class="escape">{escape(character)}</i>'


def _attribute(value: str) -> str:
    return _SPECIAL.sub(lambda match: _NAMED.get(match[0]) or escape(match[0]), value)


def element(name: str, *children: Child, attributes: Mapping[str, str] | None = None, class_: str = "") -> Html:
    """An element; strings inside of it are text, and ``None`` is nothing.

    Raises:
        ValueError: The element or an attribute is not one that a trace needs.
    """
    given = {**({"class": class_} if class_ else {}), **(attributes or {})}
    if name not in _ELEMENTS or not given.keys() <= _ATTRIBUTES:
        raise ValueError(f"<{name}> with {sorted(given)} has no place on this page")
    if not given.get("href", "#").startswith("#"):
        raise ValueError(f"a link to {given['href']!r} leaves the page")
    opening = "".join(f' {key}="{_attribute(value)}"' for key, value in given.items())
    if name in _EMPTY:
        return Html(f"<{name}{opening}/>")
    # A newline right behind <pre> would be dropped, so there is always one to drop.
    begin = "\n" if name == "pre" else ""
    return Html(f"<{name}{opening}>{begin}{fragment(children).source}</{name}>")


def fragment(children: Iterable[Child]) -> Html:
    """Several things in a row."""
    return Html(
        "".join(
            child.source if isinstance(child, Html) else text(child).source for child in children if child is not None
        )
    )


def document(title: str, style: str, body: Html) -> str:
    """A whole page, which runs no script and loads nothing: its policy forbids both, even if markup got in.

    Args:
        title: Shown by the browser.
        style: The style sheet, ours; its hash is the only style the policy allows.
        body: The page.
    """
    import base64
    import hashlib

    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{_attribute(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body.source}\n</body>\n</html>\n"
    )
