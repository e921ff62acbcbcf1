"""Pure functions of tensors: objectives, regularisers, quantisation, and similarity of images."""
