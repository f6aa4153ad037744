"""The command `demo`: both sides at work on a stream of their own."""
