"""The language model: layers, attention, products. TensorFlow from here on."""
