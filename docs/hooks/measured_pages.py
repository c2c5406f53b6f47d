"""MkDocs hook: shows the model cards and the results of the benchmarks, which live beside what they describe.

The files stay the only source. Their pictures come along; links to other files of the repository become plain names.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

_ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)[^)]*\)")
_PICTURE = re.compile(r"!\[[^\]]*\]\(([^):]+)\)")


def measured_files() -> dict[str, Path]:
    """Pages of the site by their path, and the files that they show."""
    cards = {f"cards/{card.parent.name}.md": card for card in _ROOT.glob("models/artifacts/*/README.md")}
    return cards | {f"measured/{result.name}": result for result in _ROOT.glob("benchmarks/results/*.md")}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages and their pictures to the site."""
    for page, source in measured_files().items():
        text = source.read_text()
        for name in _PICTURE.findall(text):
            picture = f"{Path(page).parent}/{source.parent.name}-{name}"
            text = text.replace(f"]({name})", f"]({Path(picture).name})")
            files.append(File.generated(config, picture, abs_src_path=str(source.parent / name)))
        shown = f"<!-- {source.relative_to(_ROOT)} -->\n\n" + _LINK.sub(r"`\1`", text)
        files.append(File.generated(config, page, content=shown))
    return files
