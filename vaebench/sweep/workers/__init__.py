"""Workers: what a process does with the trials that it takes."""
