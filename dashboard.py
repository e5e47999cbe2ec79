"""The dashboard: `streamlit run dashboard.py [-- --data PATH]`. Names the pages and nothing else.

Streamlit runs a page's file directly when a deep link is the first request to a fresh server, so every page is whole
by itself: title and menu come from `ui.page()`, which each page calls first.
"""

import streamlit as st

from pages import ui

st.navigation([st.Page(entry.file, title=entry.title, icon=entry.icon) for entry in ui.MENU], position="hidden").run()
