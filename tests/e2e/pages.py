"""Markdown pages as tests need them: the fenced blocks below each heading, and the links."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    heading: str
    language: str
    text: str


def blocks(page):
    """All fenced blocks in their order. The language is the first word behind the fence."""
    found, heading, fence, lines = [], "", None, []
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            if fence is None:
                fence, lines = re.split(r"[\s,]", line[3:])[0], []
            else:
                found.append(Block(heading, fence, "\n".join(lines) + "\n"))
                fence = None
        elif fence is not None:
            lines.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("#").strip()
    assert fence is None, f"{page} ends inside a fence"
    return found


def block(page, heading, language, number=0):
    """The text of one block."""
    return [b.text for b in blocks(page) if (b.heading, b.language) == (heading, language)][number]


def prose(page):
    """The page without its fenced and indented blocks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)
    return re.sub(r"^    .*$", "", text, flags=re.M)


def links(page):
    """Where its links lead, relative to it."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page):
    """The names of its headings, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
            for heading in re.findall(r"^#+ +(.*)$", prose(page), re.M)}
