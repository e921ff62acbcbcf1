"""People as judges: a page that asks them about pictures of runs, and what their answers say. See docs/judging.md."""
