"""Plans carried out: the loop that lists, plans and executes."""
