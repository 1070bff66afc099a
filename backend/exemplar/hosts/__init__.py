"""Other people's hosts: which of them are asked for a file, over which connection, and for how long."""
