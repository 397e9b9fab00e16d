"""The default executor: containers made of namespaces, in Python, with no other program."""
