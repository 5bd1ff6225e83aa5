"""`.keras` files from anywhere, opened safely in a process of their own. No TensorFlow."""
