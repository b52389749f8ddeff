"""HTML as a list of tags and of pieces of text."""

from __future__ import annotations

import html.parser


class Tags(html.parser.HTMLParser):
    """Every tag with its attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, name: str) -> list[str | None]:
        """What an attribute of this name is, wherever there is one."""
        return [attributes[name] for _, attributes in self.tags if name in attributes]
