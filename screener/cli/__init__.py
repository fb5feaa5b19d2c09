"""The command line: parse, build settings, call, print. No decisions.

Exit codes: 0 done, 1 failed, 2 wrong use or settings, 3 not analysed (one study as the subject).
"""

from screener.cli.app import app, main

__all__ = ["app", "main"]
