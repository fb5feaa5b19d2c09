"""The version, alone in its file so that every part may name it."""

VERSION = "0.1.0"
