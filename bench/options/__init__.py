"""What a bench can be asked for, in one type: the command line, the worker and the report have it from here."""
