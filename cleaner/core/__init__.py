"""Values and the decisions made from them: no I/O, clock, environment or log."""
