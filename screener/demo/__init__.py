"""A whole journey on one machine: a node, a test PACS, synthetic studies, their reports."""
