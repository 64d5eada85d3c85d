"""Necks of the suite's own; the hosts' FPN and the like are used from the hosts."""
