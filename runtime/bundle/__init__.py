"""The format of a bundle: its manifest, and the checks that every file passes before it is used."""
