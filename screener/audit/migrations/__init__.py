"""Schema changes, oldest first; `Database.upgrade` applies them."""
