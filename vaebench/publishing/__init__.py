"""Publishing of records: a static site of boards, submissions to such a board and their referee, and the Hub."""
