"""How runs and races are shown: in words, tables and drawings. No Streamlit, no TensorFlow."""
