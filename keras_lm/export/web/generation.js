// Which token comes next, and the text that follows.

// Numbers from 0 to below 1 that a seed decides (mulberry32).
export function randomNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

// One token: temperature 0 takes the likeliest; top-k 0 and top-p 1 leave all.
export function sample(logits, { temperature, topK, topP }, random) {
  const ids = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b);
  if (temperature <= 0) return ids[0];
  const left = topK > 0 ? ids.slice(0, topK) : ids;
  const shares = left.map((id) => Math.exp((logits[id] - logits[ids[0]]) / temperature));
  const total = shares.reduce((a, b) => a + b, 0);
  let [kept, sum] = [0, 0];
  do sum += shares[kept++]; while (kept < left.length && sum < topP * total);
  let draw = random() * sum;
  for (let i = 0; i < kept; i++) {
    draw -= shares[i];
    if (draw < 0) return left[i];
  }
  return left[kept - 1];
}

// Yields the tokens after a prompt, at most settings.count, until the text ends.
export function* continueIds(model, tokens, prompt, settings) {
  const { context_length: context, positions } = model.config;
  const random = randomNumbers(settings.seed);
  const known = prompt.slice(-context);
  let made = 0;
  if (!known.length) {
    const [first, end] = tokens.firsts;
    known.push(tokens.stop ?? first + Math.floor(random() * (end - first)));
    if (tokens.stop === null) {
      made = 1;
      yield known[0];
    }
  }
  model.reset();
  let logits;
  for (const id of known) logits = model.step(id);
  for (; made < settings.count; made++) {
    const id = sample(logits, settings, random);
    if (id === tokens.stop) return;
    yield id;
    known.push(id);
    if (positions === "learned" && model.position === context) {
      // Learned positions end with the context: its last half is read again from 0 on.
      model.reset();
      for (const last of known.slice(-Math.max(1, Math.floor(context / 2)))) logits = model.step(last);
    } else {
      logits = model.step(id);
    }
  }
}
