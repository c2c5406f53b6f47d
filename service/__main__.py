"""``python -m service`` is ``fingerpost``."""

from service.commands.cli import main

main()
