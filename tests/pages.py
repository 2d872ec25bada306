"""The README and the docs as data: blocks of code, headings, links, and the parts that are written from real runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PART = re.compile(r"(<!-- begin (?P<name>[\w-]+): [^>]*-->\n)(?P<text>.*?)(<!-- end (?P=name) -->)", re.DOTALL)
_LINK = re.compile(r"\[[^\]\n]+\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block, and the line of the page that its text begins in."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Page:
    """One document."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @property
    def prose(self) -> str:
        """The text with its fenced blocks blanked out, line by line."""
        return _FENCE.sub(lambda block: "\n" * block[0].count("\n"), self.text)

    def blocks(self, language: str) -> list[Block]:
        return [
            Block(found[1], found[2], self.text.count("\n", 0, found.start()) + 2)
            for found in _FENCE.finditer(self.text)
            if found[1] == language
        ]

    def headings(self) -> list[str]:
        return [found[2] for found in _HEADING.finditer(self.prose)]

    def anchors(self) -> set[str]:
        """The ids that GitHub gives the headings."""
        return {anchor(heading) for heading in self.headings()}

    def links(self) -> list[str]:
        return _LINK.findall(self.prose)

    def parts(self) -> dict[str, str]:
        """The parts that ``transcripts.py`` writes, by name."""
        return {found["name"]: found["text"] for found in _PART.finditer(self.text)}

    def with_parts(self, new: dict[str, str]) -> str:
        """The page's text with these parts in place of the old ones."""
        return _PART.sub(lambda found: found[1] + new.get(found["name"], found["text"]) + found[4], self.text)


def anchor(heading: str) -> str:
    plain = re.sub(r"[`*]", "", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def pages() -> Iterator[Page]:
    """All documents that a reader sees."""
    yield Page(ROOT / "README.md")
    yield Page(ROOT / "CHANGELOG.md")
    yield from (Page(path) for path in sorted((ROOT / "docs").glob("*.md")))


def page(name: str) -> Page:
    return Page(ROOT / name)
