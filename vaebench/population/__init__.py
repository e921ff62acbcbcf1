"""N runs trained as one model on one device: see `Population`."""

from vaebench.population._member import Member
from vaebench.population._population import Population

__all__ = ["Member", "Population"]
