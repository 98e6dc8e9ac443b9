"""``python -m cloakify``: the command line."""

from cloakify.cli.main import main

main()
