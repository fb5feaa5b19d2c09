"""C-STORE in: what was acknowledged is on stable storage, and nothing else happens here."""
