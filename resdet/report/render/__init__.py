"""A gathered report as page, Markdown, terminal text and JSON; its charts, tables and pictures."""
