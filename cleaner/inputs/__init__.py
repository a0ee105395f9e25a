"""What the command line is given: names, policies, tags.  Only files are read."""
