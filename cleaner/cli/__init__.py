"""The command line; the function imports nothing of it."""
