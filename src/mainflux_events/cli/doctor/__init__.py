"""The command `doctor`: what it looks at, what follows from that, and how it says so."""
