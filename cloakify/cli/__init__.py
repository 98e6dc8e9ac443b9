"""The command line: one file a verb, thin over `cloakify.workflows`.

Nothing heavy is imported until a verb runs, so that `cloakify --help` answers at once.
"""
