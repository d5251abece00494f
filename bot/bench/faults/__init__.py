"""A campaign of `kill -9` against a service under load, and the account of what people saw of it."""
