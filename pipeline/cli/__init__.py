"""The command line: arguments, errors in one line, progress, tables, and the verbs."""
