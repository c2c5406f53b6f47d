"""``python -m service`` is ``fingerpost``."""

from service.cli import main

main()
