"""What the tests need: the models, the servers that serve them, the clients that ask."""
