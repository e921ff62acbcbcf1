"""From a configuration (`experiment`) to trained weights: one run (`solo`) or many at once (`population`)."""
