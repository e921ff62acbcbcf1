"""The commands of the command line, one to a module, found by walking this folder.

A module has `HELP` (one line), `EXAMPLE` (what the help shows) and either `arguments(parser)`, which adds what it
takes, with `run(arguments)`, or `raw(argv)`, where a parser of its own reads them. Both return the exit code. What is
heavy is imported inside, so that help answers at once.
"""
