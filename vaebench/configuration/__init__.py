"""From text to objects: names of families, data sets and parts, and error messages for settings."""
