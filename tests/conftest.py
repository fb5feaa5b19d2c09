"""Fixtures that every test may ask for by name."""

pytest_plugins = ["tests.integration.databases", "tests.integration.brokers"]
