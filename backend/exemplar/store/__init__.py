"""What is kept on disk: immutable snapshots, who the projects are, and what they still ask of us."""
