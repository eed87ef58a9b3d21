"""A second implementation of docs/protocol.md: slow, for tests, and written from the description alone."""
