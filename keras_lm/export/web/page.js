// The page: what is typed becomes a text, token by token.

import { continueIds } from "./generation.js";
import { Model, readSafetensors } from "./model.js";
import { Tokens } from "./tokens.js";

const PATIENCE = 12; // milliseconds of work before the browser may draw
const get = (id) => document.getElementById(id);
const say = (words) => (get("status").textContent = words);
let stopped = false;

async function read(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name} is missing`);
  return answer;
}

async function load() {
  const [config, stored] = await Promise.all(
    ["config.json", "tokenizer.json"].map(async (name) => (await read(name)).json()),
  );
  const weights = readSafetensors(await (await read("model.safetensors")).arrayBuffer());
  get("title").textContent = config.title;
  document.title = config.title;
  get("prompt").value = config.prompt;
  return { model: new Model(config, weights), tokens: new Tokens(stored, config) };
}

function settings() {
  const number = (id) => get(id).valueAsNumber;
  return {
    temperature: number("temperature"),
    topK: number("top-k"),
    topP: number("top-p"),
    count: number("count"),
    seed: number("seed"),
  };
}

const pause = () => new Promise((resolve) => setTimeout(resolve));

async function generate({ model, tokens }) {
  const [prompt, decoder] = [get("prompt").value, new TextDecoder()];
  const given = document.createElement("mark");
  given.textContent = prompt;
  get("text").replaceChildren(given);
  const began = performance.now();
  let [made, drawn, piece] = [0, began, ""];
  const show = async () => {
    get("text").append(piece);
    piece = "";
    await pause();
    drawn = performance.now();
  };
  for (const id of continueIds(model, tokens, tokens.encode(prompt), settings())) {
    piece += decoder.decode(tokens.bytes(id), { stream: true });
    made++;
    if (performance.now() - drawn > PATIENCE) await show();
    if (stopped) break;
  }
  piece += decoder.decode();
  await show();
  const seconds = Math.max(1, performance.now() - began) / 1000;
  const amount = `${made} token${made === 1 ? "" : "s"}`;
  return `${stopped ? "Stopped after" : "Made"} ${amount}, ${Math.round(made / seconds)} per second.`;
}

async function submit(event, loaded) {
  event.preventDefault();
  [get("generate").disabled, get("stop").disabled, stopped] = [true, false, false];
  say("Generating.");
  await pause();
  try {
    say(await generate(loaded));
  } finally {
    [get("generate").disabled, get("stop").disabled] = [false, true];
  }
}

get("stop").addEventListener("click", () => (stopped = true));
try {
  const loaded = await load();
  get("form").addEventListener("submit", (event) => submit(event, loaded));
  get("generate").disabled = false;
  say(`Ready: ${loaded.model.count.toLocaleString("en")} weights.`);
} catch (error) {
  say(`The model cannot be loaded (${error.message}). Open this folder through a web server.`);
}
