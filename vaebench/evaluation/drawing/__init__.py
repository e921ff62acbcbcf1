"""Pictures and charts of a record."""
