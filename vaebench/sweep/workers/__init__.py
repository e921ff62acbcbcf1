"""Workers: processes that take trials and run them."""
