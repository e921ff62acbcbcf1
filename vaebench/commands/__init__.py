"""The commands of the command line, one module each, discovered in this folder.

A module has `HELP` (one line), `EXAMPLE` (for the help) and either `arguments(parser)`, which adds its arguments, with
`run(arguments)`, or `raw(argv)`, with a parser of its own. Both return the exit code. Heavy imports are inside, so that
help is fast.
"""
