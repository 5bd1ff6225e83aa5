"""A trained model at work: sampling, streaming, inspecting."""
