"""Data sets, one module each: a new one is a new file, found by `vaebench.configuration.discovery`."""
