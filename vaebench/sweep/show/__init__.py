"""Views of a sweep: a table in the terminal, and a page."""
