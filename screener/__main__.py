"""``python -m screener`` is ``screener``."""

from screener.cli import main

if __name__ == "__main__":
    main()
