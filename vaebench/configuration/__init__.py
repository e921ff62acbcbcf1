"""From text to objects: what families, data sets and parts are called, and what is wrong with a setting."""
