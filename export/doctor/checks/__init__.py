"""What the doctor looks at: each check takes a machine and gives findings."""
