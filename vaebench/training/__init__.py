"""From a configuration to trained weights: one run (`experiment`) or many at once (`population`)."""
