"""The page: Streamlit only here."""
