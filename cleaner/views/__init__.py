"""How plans look: tables, JSON, a page, explanations.  It reads no clock, network, environment or log."""
