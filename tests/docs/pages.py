"""The pages of the documentation, their code blocks and their tables."""

import re
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^( *)```(\w*)([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (.+) -->$")
_TITLE = re.compile(r'title="([^"]+)"')
_SNIPPET = re.compile(r'^--8<-- "([^"]+)"$', re.MULTILINE)


class Block(NamedTuple):
    """A fenced block. `mark` is the comment on the line before it, `title` the file that a reader saves it as."""

    page: str
    line: int
    language: str
    title: str | None
    mark: str | None
    code: str

    @property
    def is_run(self) -> bool:
        return self.mark == "tested"

    @property
    def schema(self) -> str | None:
        """What the block must be valid against, if it is marked so."""
        return self.mark.removeprefix("schema: ") if self.mark and self.mark.startswith("schema: ") else None

    @property
    def reason_not_to_test(self) -> str | None:
        return self.mark.removeprefix("not tested: ") if self.mark and self.mark.startswith("not tested: ") else None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> Iterator[Block]:
    """All fenced blocks of a page, with the files that they include."""
    text = page.read_text()
    for found in _FENCE.finditer(text):
        before = text[: found.start()].rstrip("\n").rpartition("\n")[2]
        mark, title = _MARK.search(before), _TITLE.search(found[3])
        code = _SNIPPET.sub(lambda named: (ROOT / named[1]).read_text().rstrip("\n"), textwrap.dedent(found[4]))
        line = text.count("\n", 0, found.start()) + 1
        yield Block(name_of(page), line, found[2], title and title[1], mark and mark[1], code)


def all_blocks() -> list[Block]:
    return [block for page in PAGES for block in blocks_of(page)]


def pages_to_run(*, training: bool) -> dict[str, list[Block]]:
    """The blocks of each page that has some to run; pages that train a model apart from the others."""
    pages: dict[str, list[Block]] = defaultdict(list)
    for block in all_blocks():
        pages[block.page].append(block)
    return {
        name: found
        for name, found in pages.items()
        if (code := "".join(block.code for block in found if block.is_run)) and ("train fit" in code) is training
    }


def blocks(page: str, language: str) -> list[str]:
    """The code of all blocks of a page in a language."""
    return [block.code for block in blocks_of(ROOT / "docs" / page) if block.language == language]


def rows(page: str) -> list[list[str]]:
    """The rows of all tables of a page, without their heads."""
    lines = [line for line in (ROOT / "docs" / page).read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    rules = [at for at, row in enumerate(cells) if set("".join(row)) <= set("- :")]
    return [row for at, row in enumerate(cells) if at not in rules and at + 1 not in rules]
