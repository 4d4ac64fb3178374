"""Render a table for a terminal or as Markdown, LaTeX, HTML or CSV."""
