"""The page: `streamlit run streamlit_app.py`."""

from keras_lm.ui.app import main

main()
