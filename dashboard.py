"""The dashboard: `streamlit run dashboard.py [-- --data PATH]`. Names the pages and nothing else.

Streamlit runs a page's file directly when a deep link is the first request to a fresh server, so every page is whole
by itself: title, icon and menu come from `ui.page()`, which each page calls first. An icon named here would be fetched
from another computer for the browser's tab.
"""

import streamlit as st

from pages import ui

st.navigation([st.Page(entry.file, title=entry.title) for entry in ui.MENU], position="hidden").run()
