"""A trained model as files that others can use."""
