"""Mathematics of objectives, regularisers and pictures: pure functions of tensors."""
