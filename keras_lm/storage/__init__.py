"""Files and folders: written whole, read within limits. No TensorFlow."""
