"""A button that copies a text; Streamlit's own stands only beside blocks of code."""

from streamlit.components.v2 import component

# The old command works on pages without HTTPS, too, where `navigator.clipboard` is missing.
_JAVASCRIPT = """
export default function({data, parentElement}) {
  const button = parentElement.querySelector("button")
  button.onclick = () => {
    const area = document.body.appendChild(document.createElement("textarea"))
    area.value = data
    area.select()
    const copied = document.execCommand("copy")
    area.remove()
    button.focus()
    button.lastElementChild.textContent = copied ? "Copied" : "Not copied"
    setTimeout(() => { button.lastElementChild.textContent = "Copy" }, 2000)
  }
}
"""
_CSS = """
button {
  min-height: 2.5rem; padding: 0.25rem 0.75rem; cursor: pointer; font: 0.875rem var(--st-font);
  color: var(--st-text-color); background: transparent;
  border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius);
}
button:hover, button:focus-visible {
  color: var(--st-primary-color); border-color: var(--st-primary-color);
}
button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 1px }
"""
_button = component(
    "copy_button",
    html='<button type="button"><span aria-live="polite">Copy</span></button>',
    css=_CSS,
    js=_JAVASCRIPT,
)


def copy_button(text: str, key: str) -> None:
    """Draws a button that puts `text` on the clipboard."""
    _button(key=key, data=text, width="content", height="content")
