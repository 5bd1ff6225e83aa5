// Speaks to people who do not see the page, and keeps their focus; Streamlit has no such thing.

const QUIET = 250; // milliseconds after which the page has stopped changing

function region() {
  // A screen reader hears changes only of a region that was there before them.
  let found = document.getElementById("reach-region");
  if (!found) {
    found = document.createElement("div");
    found.id = "reach-region";
    found.className = "for-readers";
    found.setAttribute("role", "status");
    found.setAttribute("aria-live", "polite");
    document.body.append(found);
  }
  return found;
}

function focusHeading() {
  const heading = document.querySelector(".stMain :is(h1, h2, h3)");
  if (!heading) return;
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
}

function shownRun() {
  return new URLSearchParams(location.search).get("run");
}

function keepFocus() {
  // A button that is gone after its click would leave the focus nowhere: the heading gets it.
  // Another run is shown from its top, wherever the page before had been scrolled to.
  if (window.reachKeepsFocus) return;
  window.reachKeepsFocus = true;
  let last = null;
  let timer = 0;
  document.addEventListener("focusin", (event) => (last = event.target));
  document.addEventListener("pointerdown", (event) => {
    if (!event.target.closest("a, button, input, select, textarea, [tabindex]")) last = null;
  });
  let run = shownRun();
  const check = () => {
    if (run !== shownRun()) {
      const parts = '.stMain, [data-testid="stSidebarContent"]';
      document.querySelectorAll(parts).forEach((part) => part.scrollTo(0, 0));
    }
    run = shownRun();
    const nowhere = document.activeElement === document.body || !document.activeElement;
    if (nowhere && last && (!last.isConnected || last.disabled)) focusHeading();
  };
  new MutationObserver(() => {
    clearTimeout(timer);
    timer = setTimeout(check, QUIET);
  }).observe(document.body, { childList: true, subtree: true, attributeFilter: ["disabled"] });
}

const LEAVING = 2000; // milliseconds in which a click on a link leads to another page
let leftAt = -LEAVING;
document.addEventListener(
  "click",
  (event) => {
    if (event.target.closest("a")) leftAt = performance.now();
  },
  true,
);

function answer(setStateValue) {
  // An answer for a page that is being left would call it back; the next page needs none.
  if (performance.now() - leftAt > LEAVING) setStateValue("styled", true);
}

function whenStyled(then) {
  const isStyled = [...document.querySelectorAll("style")].some((style) =>
    style.textContent.includes(".for-readers"),
  );
  if (isStyled) then();
  else requestAnimationFrame(() => whenStyled(then));
}

export default function ({ data, setStateValue }) {
  keepFocus();
  if (data.ask) whenStyled(() => answer(setStateValue));
  const spoken = region();
  if (data.say && spoken.textContent !== data.say) spoken.textContent = data.say;
}
