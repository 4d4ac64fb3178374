"""A table as terminal, Markdown, LaTeX, HTML or CSV."""
