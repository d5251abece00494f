"""Working substitutes for the services around Zaki, for trying it out and for tests."""
