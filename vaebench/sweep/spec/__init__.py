"""The sweep file: search space, objectives, and stop rules."""
