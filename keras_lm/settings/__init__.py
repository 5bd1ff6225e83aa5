"""What can be chosen: every setting with its range, and what a run will cost. No TensorFlow."""
