"""A report as a table for the terminal, as JSON, as Markdown, and as one page of HTML."""
