"""One paper, one final class, one file. `vaebench.families()` lists them: the package itself is callable."""

from vaebench.configuration.callable import callable_package

callable_package(__name__, "vaebench.configuration.discovery")
