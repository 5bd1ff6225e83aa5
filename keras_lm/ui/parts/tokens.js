/* A text token by token, and a bar for the surprise of each; a click or the arrow keys choose one.
   Whatever is in a text, it is set as textContent or as an attribute, so none of it runs. */

const SEND_AFTER = 120; // milliseconds: a key held down asks the server once
const views = new WeakMap(); // of each mounted component

export default function ({ data, parentElement, setTriggerValue }) {
  const text = JSON.stringify([data.tokens, data.titles]);
  let view = views.get(parentElement);
  if (view?.text !== text) {
    view = { ...build(parentElement, data), text };
    views.set(parentElement, view);
  }
  view.send = (token) => setTriggerValue("token", token);
  if (view.wanted === null || view.wanted === data.token) {
    view.wanted = null;
    mark(view, data.token);
  }
  const choose = (token) => {
    if (token < 1 || token >= view.spans.length || token === view.chosen) return;
    view.wanted = token;
    mark(view, token);
    clearTimeout(view.timer);
    view.timer = setTimeout(() => view.send(token), SEND_AFTER);
  };
  for (const box of [view.box, view.strip]) {
    box.onclick = (event) => {
      const item = event.target.closest("[data-token]");
      if (item) choose(Number(item.dataset.token));
    };
    box.onkeydown = (event) => {
      const token = reached(view, event.key, box === view.strip);
      if (token === null || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      choose(Math.max(1, Math.min(view.spans.length - 1, token)));
    };
  }
}

function build(parent, data) {
  const [box, strip, description] = [".text", ".strip", ".description"].map((name) =>
    parent.querySelector(name),
  );
  const tallest = Math.max(1, ...data.bits);
  const spans = data.tokens.map((token, index) => {
    const span = document.createElement("span");
    span.textContent = token.replaceAll("\n", "↵\n");
    span.style.setProperty("--shade", data.shades[index]);
    return describe(span, data, index);
  });
  const bars = data.bits.map((bits, index) => {
    const bar = document.createElement("div");
    const room = bar.appendChild(document.createElement("u")); // above the label
    const fill = room.appendChild(document.createElement("i"));
    fill.style.height = `${(100 * bits) / tallest}%`;
    const label = bar.appendChild(document.createElement("b"));
    label.textContent = data.tokens[index].replaceAll("\n", "↵").replaceAll(" ", "␣");
    label.classList.toggle("long", label.textContent.length > 1);
    return describe(bar, data, index);
  });
  spans.forEach((span, index) => {
    span.id = `token-${index}`;
    span.setAttribute("role", "option");
    span.setAttribute("aria-label", data.titles[index].replaceAll("\n", ", "));
    if (index === 0) span.setAttribute("aria-disabled", "true"); // nothing comes before it
  });
  box.replaceChildren(...spans);
  strip.replaceChildren(...bars.slice(1));
  strip.setAttribute("aria-valuemin", "1");
  strip.setAttribute("aria-valuemax", String(spans.length - 1));
  return { box, strip, description, spans, bars, titles: data.titles, chosen: 0, wanted: null };
}

function describe(element, data, index) {
  element.dataset.token = index;
  element.title = data.titles[index];
  return element;
}

/** Marks a token as chosen, and scrolls to it inside its own box only. */
function mark(view, token) {
  for (const items of [view.spans, view.bars]) {
    items[view.chosen]?.classList.remove("chosen");
    items[token]?.classList.add("chosen");
  }
  view.spans[view.chosen]?.setAttribute("aria-selected", "false");
  view.chosen = token;
  const [span, bar] = [view.spans[token], view.bars[token]];
  span.setAttribute("aria-selected", "true");
  view.box.setAttribute("aria-activedescendant", span.id);
  view.strip.setAttribute("aria-valuenow", String(token));
  view.strip.setAttribute("aria-valuetext", view.titles[token]);
  view.description.textContent = view.titles[token].replaceAll("\n", " · ");
  const { offsetTop, offsetHeight } = span;
  if (offsetTop < view.box.scrollTop) view.box.scrollTop = offsetTop;
  const below = offsetTop + offsetHeight - view.box.clientHeight;
  if (below > view.box.scrollTop) view.box.scrollTop = below;
  const middle = bar.offsetLeft - view.strip.clientWidth / 2;
  if (Math.abs(middle - view.strip.scrollLeft) > view.strip.clientWidth / 2 - 40) {
    view.strip.scrollLeft = middle;
  }
}

/** The token that a key leads to; null for keys that choose none. */
function reached(view, key, isStrip) {
  if (isStrip) key = { ArrowUp: "ArrowRight", ArrowDown: "ArrowLeft" }[key] ?? key;
  const by = { ArrowRight: 1, ArrowLeft: -1, PageUp: 10, PageDown: -10 }[key];
  if (by) return view.chosen + by;
  if (key === "Home") return 1;
  if (key === "End") return view.spans.length - 1;
  if (key === "ArrowDown") return onNextLine(view, 1);
  if (key === "ArrowUp") return onNextLine(view, -1);
  return null;
}

/** The token under or over the chosen one. */
function onNextLine(view, by) {
  const { offsetTop: top, offsetLeft: left } = view.spans[view.chosen];
  let [line, best] = [null, view.chosen];
  for (let i = view.chosen + by; i > 0 && i < view.spans.length; i += by) {
    const span = view.spans[i];
    if (Math.abs(span.offsetTop - top) < 4) continue;
    line ??= span.offsetTop;
    if (Math.abs(span.offsetTop - line) >= 4) break;
    const off = (index) => Math.abs(view.spans[index].offsetLeft - left);
    if (best === view.chosen || off(i) < off(best)) best = i;
  }
  return best;
}
