// The model: one token after the other, with what the attention keeps of the earlier ones.

const [NORM_EPSILON, QK_EPSILON, EMPTY, GATE_SPEED] = [1e-5, 1e-7, 1e-20, 8];
const HASH = 1000003;

// The float32 arrays of a safetensors file by their names, each with its shape.
export function readSafetensors(buffer) {
  const size = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, size)));
  const arrays = {};
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [begin, end] = entry.data_offsets;
    arrays[name] = new Float32Array(buffer, 8 + size + begin, (end - begin) / 4);
  }
  return arrays;
}

function softmax(x) {
  const most = x.reduce((a, b) => Math.max(a, b), -Infinity);
  let total = 0;
  for (let i = 0; i < x.length; i++) total += x[i] = Math.exp(x[i] - most);
  for (let i = 0; i < x.length; i++) x[i] /= total;
  return x;
}

function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

// x divided by the root of its mean square.
function rms(x, epsilon) {
  const scale = 1 / Math.sqrt(dot(x, x) / x.length + epsilon);
  return x.map((value) => value * scale);
}

const gelu = (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
const silu = (x) => x / (1 + Math.exp(-x));
const ACTIVATIONS = {
  gelu: (x) => x.map(gelu),
  relu: (x) => x.map((value) => Math.max(value, 0)),
  relu2: (x) => x.map((value) => Math.max(value, 0) ** 2),
  swiglu: (x) => {
    const half = x.length / 2;
    return x.slice(half).map((value, i) => silu(x[i]) * value);
  },
};

export class Model {
  // `config` is config.json, `weights` what readSafetensors gives.
  constructor(config, weights) {
    this.config = config;
    this.weights = weights;
    this.headDim = config.d_model / config.num_heads;
    const window = 2 * config.chunk_length;
    this.hasSlots = config.attention === "linear" && config.context_length > window;
    this.window = this.hasSlots ? window : config.context_length;
    this.blocks = Array.from({ length: config.num_blocks }, (_, i) => `block_${i}`);
    this.reset();
  }

  // How many weights there are.
  get count() {
    return Object.values(this.weights).reduce((sum, array) => sum + array.length, 0);
  }

  // Forgets all tokens.
  reset() {
    this.position = 0;
    this.recent = Array(this.config.ngram_order).fill(0); // the last tokens; 0 before the text
    const ring = () => Array.from({ length: this.window }, () => null);
    this.rings = this.blocks.map(() => ({ keys: ring(), values: ring(), slots: null }));
  }

  // The logits after one more token.
  step(id) {
    const { config, weights } = this;
    const row = (name, index) =>
      weights[name].subarray(index * config.d_model, (index + 1) * config.d_model);
    let x = Float64Array.from(row("embedding.weight", id));
    this.recent = [...this.recent.slice(1), id + 1];
    for (let size = 2; size <= config.ngram_order; size++) {
      this.#add(x, row(`ngrams_${size}.weight`, this.#rowOfLast(size)));
    }
    if (config.positions === "learned") this.#add(x, row("position_embedding.weight", this.position));
    this.blocks.forEach((block, index) => {
      const normed = this.#norm(x, `${block}.attention_norm`);
      this.#add(x, this.#attention(normed, `${block}.attention`, this.rings[index]));
      const inside = this.#linear(this.#norm(x, `${block}.feed_forward_norm`), `${block}.up`);
      this.#add(x, this.#linear(ACTIVATIONS[config.activation](inside), `${block}.down`));
    });
    this.position++;
    x = this.#norm(x, "final_norm");
    const cap = config.logit_soft_cap;
    const logits = config.tie_embeddings
      ? Float64Array.from({ length: config.vocab_size }, (_, i) => dot(x, row("embedding.weight", i)))
      : this.#linear(x, "output");
    return cap ? logits.map((value) => cap * Math.tanh(value / cap)) : logits;
  }

  // The row of the last tokens, so many of them, in the table of such groups.
  #rowOfLast(size) {
    const rows = this.weights[`ngrams_${size}.weight`].length / this.config.d_model;
    const symbols = this.config.vocab_size + 1;
    const factor = rows === symbols ** size ? symbols : HASH;
    return this.recent.slice(-size).reduce((row, token) => (row * factor + token) % rows, 0);
  }

  #add(x, other) {
    for (let i = 0; i < x.length; i++) x[i] += other[i];
  }

  // A matrix (inputs, outputs), and a bias if the layer has one.
  #linear(x, layer) {
    const matrix = this.weights[`${layer}.weight`];
    const bias = this.weights[`${layer}.bias`];
    const count = matrix.length / x.length;
    const out = bias ? Float64Array.from(bias) : new Float64Array(count);
    for (let i = 0, at = 0; i < x.length; i++) {
      const value = x[i];
      for (let j = 0; j < count; j++) out[j] += value * matrix[at++];
    }
    return out;
  }

  // LayerNorm is RMSNorm of what has the mean 0.
  #norm(x, layer) {
    if (this.config.norm === "layernorm") {
      const mean = x.reduce((a, b) => a + b) / x.length;
      x = x.map((value) => value - mean);
    }
    const [scale, bias] = [this.weights[`${layer}.weight`], this.weights[`${layer}.bias`]];
    return rms(x, NORM_EPSILON).map((value, i) => value * scale[i] + (bias ? bias[i] : 0));
  }

  // A query or key of one head, turned by its position.
  #turn(x) {
    if (this.config.positions !== "rotary") return x;
    const half = x.length / 2;
    const turned = new Float64Array(x.length);
    for (let j = 0; j < half; j++) {
      const angle = this.position * Math.fround(10000 ** (-j / half));
      const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
      turned[j] = x[j] * cos - x[j + half] * sin;
      turned[j + half] = x[j + half] * cos + x[j] * sin;
    }
    return turned;
  }

  #attention(x, layer, ring) {
    const { num_heads: heads, d_model: width } = this.config;
    const qkv = this.#linear(x, `${layer}.qkv`);
    const part = (which, head) => {
      const begin = which * width + head * this.headDim;
      const cut = qkv.slice(begin, begin + this.headDim);
      return which < 2 && this.config.qk_norm ? rms(cut, QK_EPSILON) : cut;
    };
    const scale = this.headDim ** -0.5;
    const all = Array.from({ length: heads }, (_, head) => head);
    const queries = all.map((head) => part(0, head).map((value) => value * scale));
    const [keys, values] = [1, 2].map((which) => all.map((head) => part(which, head)));
    const index = this.position % this.window;
    ring.keys[index] = keys.map((key) => this.#turn(key));
    ring.values[index] = values;
    if (this.hasSlots) this.#writeSlots(x, keys, values, layer, ring);
    const mixed = new Float64Array(width);
    const seen = this.#seen();
    for (const head of all) {
      const turned = this.#turn(queries[head]);
      const scores = seen.map((i) => dot(turned, ring.keys[i][head]));
      const vectors = seen.map((i) => ring.values[i][head]);
      if (this.hasSlots) this.#readSlots(ring.slots[head], queries[head], scores, vectors);
      const weights = softmax(scores);
      vectors.forEach((vector, i) => {
        for (let j = 0; j < this.headDim; j++) mixed[head * this.headDim + j] += weights[i] * vector[j];
      });
    }
    return this.#linear(mixed, `${layer}.output`);
  }

  // The indices in the ring that the present token sees.
  #seen() {
    const { position, window } = this;
    const inChunk = position % this.config.chunk_length;
    const most = this.hasSlots ? this.config.chunk_length + inChunk + 1 : window;
    const count = Math.min(position + 1, most);
    return Array.from({ length: count }, (_, age) => (position - age) % window);
  }

  // Adds the present token to the sums of its chunk, which count two chunks later.
  #writeSlots(x, keys, values, layer, ring) {
    const { num_heads: heads, num_slots: slots, chunk_length: chunk } = this.config;
    const [gates, rates] = ["gate", "log_rate"].map((name) => this.weights[`${layer}.slots.${name}`]);
    const zeros = () => new Float64Array(2 * this.headDim + 1);
    ring.slots ??= Array.from({ length: heads * slots }, (_, i) => ({
      gate: GATE_SPEED * gates[i],
      decay: Math.exp(-Math.exp(rates[i])),
      sums: zeros(),
      previous: zeros(),
      own: zeros(),
    })).reduce((all, slot, i) => (i % slots ? all.at(-1).push(slot) : all.push([slot]), all), []);
    const shares = this.#linear(x, `${layer}.slots`);
    ring.slots.forEach((ofHead, head) => {
      const share = softmax(shares.slice(head * slots, (head + 1) * slots));
      const token = [...keys[head], ...values[head], 1];
      ofHead.forEach((slot, i) => {
        if (this.position % chunk === 0) {
          slot.sums = slot.sums.map((sum, j) => slot.decay * sum + slot.previous[j]);
          slot.previous = slot.own;
          slot.own = zeros();
        }
        for (let j = 0; j < token.length; j++) slot.own[j] += share[i] * token[j];
      });
    });
  }

  // Puts the slots' scores and mean values beside those of the window.
  #readSlots(slots, query, scores, vectors) {
    for (const { sums, gate } of slots) {
      const count = sums.at(-1);
      if (!(count > EMPTY)) continue;
      const means = sums.map((sum) => sum / count);
      scores.push(dot(query, means.subarray(0, this.headDim)) + Math.log(count) + gate);
      vectors.push(means.subarray(this.headDim, 2 * this.headDim));
    }
  }
}
