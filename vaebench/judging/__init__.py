"""Human evaluation: a page with questions about pictures of runs, and scores from the answers. See docs/judging.md."""
