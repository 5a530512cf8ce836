"""A page as a browser would read it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser

EMPTY = ("meta", "img", "br")
"""Tags that nothing ends."""
ELSEWHERE = re.compile(r"https?:|url\(|@import|<link|<script|<iframe|javascript:|\son\w+\s*=")
"""What would load or run something; nothing of ours holds it."""


class Page(HTMLParser):
    """Tags with their attributes, and the text; every tag must be ended by its own."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, Mapping[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[Mapping[str, str | None]]:
        """The attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]
