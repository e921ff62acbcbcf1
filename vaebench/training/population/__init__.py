"""N runs trained as one model on one device: see `Population`."""

from vaebench.training.population.member import Member
from vaebench.training.population.population import Population

__all__ = ["Member", "Population"]
