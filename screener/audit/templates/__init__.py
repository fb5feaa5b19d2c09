"""Pages for people; a package so that they are installed with the code."""
