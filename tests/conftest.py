"""Fixtures that tests of every kind share."""
