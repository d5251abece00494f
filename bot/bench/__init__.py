"""Figures measured on the machine at hand, beside a peer where there is one."""
