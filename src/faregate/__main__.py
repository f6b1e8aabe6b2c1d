"""``python -m faregate``: the command line."""

from faregate.cli import main

main()
