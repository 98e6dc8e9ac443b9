"""``python -m cloakify``: the command line."""

from cloakify.cli.process import main

main()
