"""C-STORE out, and the questions we ask of other nodes."""
