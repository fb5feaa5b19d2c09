"""Train, export and measure models; the only place for torch. Never imported by the daemon."""
