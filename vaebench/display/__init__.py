"""What people see: progress in terminals, tables in notebooks and Markdown."""
