"""The flows of one project, as plain functions: refresh makes a snapshot, serve answers from it."""
