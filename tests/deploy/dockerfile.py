"""Reads the repository's Dockerfile and .dockerignore: the part of their grammar that these files use."""

import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Stage(NamedTuple):
    """A build stage. Its instructions are in order: keyword and arguments, the arguments on one line."""

    base: str
    instructions: list[tuple[str, str]]

    def arguments(self, keyword: str) -> list[str]:
        return [rest for word, rest in self.instructions if word == keyword]

    def environment(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for rest in self.arguments("ENV") for pair in shlex.split(rest))

    def command(self, keyword: str) -> list[str]:
        """The last ENTRYPOINT or HEALTHCHECK, as a list. It must be in the form that starts no shell."""
        command: list[str] = json.loads(self.arguments(keyword)[-1].partition("[")[2].join(("[", "")))
        return command


def read_stages() -> dict[str, Stage]:
    """The stages of the Dockerfile by name."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    stages: dict[str, Stage] = {}
    instructions: list[tuple[str, str]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        keyword, _, rest = line.partition(" ")
        if keyword == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()  # type: ignore[union-attr]
            instructions = []
            stages[name] = Stage(base, instructions)
        else:
            instructions.append((keyword, re.sub(r"\s+", " ", rest)))
    return stages


def sent_to_the_builder(path: str) -> bool:
    """Whether Docker sends a path to the builder: the last pattern of `.dockerignore` that matches it decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            regex = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
            if re.match(rf"{regex}(?:/|$)", path):
                sent = line.startswith("!")
    return sent
