"""How fast the library is, beside what a user would pick instead: see README.md."""
