"""A checkpoint's pickle, read as data: nothing that it names is called."""
