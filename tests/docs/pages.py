"""The pages of the documentation, their examples and their tables."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TESTED = re.compile(r"^<!-- tested -->\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    page: str
    language: str
    code: str


def examples_to_run() -> list[Example]:
    """The code blocks behind a line ``<!-- tested -->``."""
    return [
        Example(str(page.relative_to(ROOT)), language, code)
        for page in PAGES
        for language, code in _TESTED.findall(page.read_text())
    ]


def blocks(page: str, language: str) -> list[str]:
    """All code blocks of a page in a language."""
    return [code for found, code in _BLOCK.findall((ROOT / "docs" / page).read_text()) if found == language]


def rows(page: str) -> list[list[str]]:
    """The rows of all tables of a page, without their heads."""
    lines = [line for line in (ROOT / "docs" / page).read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    rules = [at for at, row in enumerate(cells) if set("".join(row)) <= set("- :")]
    return [row for at, row in enumerate(cells) if at not in rules and at + 1 not in rules]
