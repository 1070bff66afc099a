"""The verbs of the command line, each a function that says what is to be printed."""
