/* The samples of a run: a slider over them, a button that plays them, and the shades of a held-out
   text. The newest is shown until somebody chooses another. Whatever is in a text, it is set as
   textContent or as an attribute, so none of it runs. */

const SLOWEST = 800, QUICKEST = 200, WHOLE = 15000; // milliseconds: of a point, and of all together
const PLAY = "M3 1l11 7-11 7z", PAUSE = "M3 1h4v14H3zM9 1h4v14H9z";
const DARKEST = 0.6; // of the legend
const views = new WeakMap(); // of each mounted component

export default function ({ data, parentElement }) {
  const view = views.get(parentElement) ?? build(parentElement);
  views.set(parentElement, view);
  const step = view.points[view.index]?.step;
  view.points = data.points;
  view.tokens = data.tokens;
  const newest = view.points.length - 1;
  view.slider.max = String(newest);
  view.play.disabled = newest < 1;
  const kept = view.points.findLastIndex((point) => point.step <= step);
  show(view, view.follows || kept < 0 ? newest : kept);
}

function build(parent) {
  const find = (name) => parent.querySelector(name);
  const view = {
    root: find(".film"), play: find(".play"), slider: find("input"),
    step: find(".step"), sample: find(".sample"), window: find(".window"), words: find(".words"),
    points: [], tokens: [], index: 0, follows: true, timer: null, drawn: "",
  };
  parent.querySelectorAll(".legend i").forEach((box, index, all) => {
    box.style.setProperty("--shade", (DARKEST * index) / (all.length - 1));
  });
  view.slider.oninput = () => {
    pause(view);
    choose(view, Number(view.slider.value));
  };
  view.play.onclick = () => (view.timer ? pause(view) : play(view));
  pause(view);
  return view;
}

/** Shows a point because somebody wants it: the newest one keeps being followed. */
function choose(view, index) {
  view.follows = index === view.points.length - 1;
  show(view, index);
}

function play(view) {
  const newest = view.points.length - 1;
  choose(view, view.index === newest ? 0 : view.index);
  mark(view, PAUSE, "Pause");
  const pace = Math.max(QUICKEST, Math.min(SLOWEST, WHOLE / newest));
  view.timer = setInterval(() => {
    if (!view.root.isConnected) return pause(view);
    choose(view, view.index + 1);
    if (view.index >= view.points.length - 1) pause(view);
  }, pace);
}

function pause(view) {
  clearInterval(view.timer);
  view.timer = null;
  mark(view, PLAY, "Play the samples");
}

function mark(view, path, label) {
  view.play.innerHTML = `<svg viewBox="0 0 16 16" aria-hidden="true"><path d="${path}"/></svg>`;
  view.play.setAttribute("aria-label", label);
  view.play.title = label;
}

function show(view, index) {
  const point = view.points[index];
  view.index = index;
  view.slider.value = String(index);
  const when = `after step ${point.step.toLocaleString("en")}`;
  view.slider.setAttribute("aria-valuetext", `${when}, ${index + 1} of ${view.points.length}`);
  const drawn = JSON.stringify([point, view.tokens]);
  if (drawn === view.drawn) return; // nobody's place in a long sample is lost
  view.drawn = drawn;
  view.step.textContent = when;
  const [prompt, text] = view.sample.children;
  [prompt.textContent, text.textContent] = [point.prompt, point.text];
  view.sample.scrollTop = 0;
  draw_window(view, point);
}

function draw_window(view, point) {
  view.root.classList.toggle("alone", !point.shades.length);
  if (view.window.children.length !== view.tokens.length) {
    view.window.replaceChildren(...view.tokens.map((token) => {
      const span = document.createElement("span");
      span.textContent = token.replaceAll("\n", "↵ ");
      return span;
    }));
  }
  point.shades.forEach((shade, index) => {
    view.window.children[index].style.setProperty("--shade", shade);
  });
  view.words.textContent = view.words.title = point.words;
  const words = `Validation text. ${point.words} It is: ${view.tokens.join("")}`;
  view.window.setAttribute("aria-label", words);
}
