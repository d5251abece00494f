"""What a hostile instance would try, made by a throw-away one: run by the tests and by `zaki doctor --attack`."""
