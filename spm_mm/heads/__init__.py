"""Heads of the suite's own; the hosts' heads are used from the hosts."""
