"""Server-sent events out of bytes, cut anywhere."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["EventReader"]


class EventReader:
    r"""Collects the data of events.

    Lines end at a line feed and nowhere else: readers of text lines also cut at U+2028 and the like, which stand
    unescaped in the JSON of servers that do not escape.

    Example:
        >>> reader = EventReader()
        >>> list(reader.feed(b"data: on")), list(reader.feed(b"e\n\n"))
        ([], ['one'])
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._data: list[bytes] = []

    def feed(self, block: bytes) -> Iterator[str]:
        """The data of every event that ends in this block."""
        first, *others = block.split(b"\n")
        self._line.append(first)
        for line in others:
            yield from self._end(b"".join(self._line).removesuffix(b"\r"))
            self._line = [line]

    def _end(self, line: bytes) -> Iterator[str]:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line and self._data:
            # An event is only told whole, so a character cut by the network never shows.
            whole, self._data = b"\n".join(self._data), []
            if whole.strip():  # an empty one keeps the connection alive
                yield whole.decode("utf-8", "replace")
