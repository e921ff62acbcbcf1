from vaebench.core import DataSpec
from vaebench.families.beta_vae import BetaVAE


class OwnVAE(BetaVAE):
    def __init__(self, data: DataSpec, weight: float = 50.0, latent: int = 2) -> None:
        super().__init__(data, latent=latent)
        self.weight = weight
