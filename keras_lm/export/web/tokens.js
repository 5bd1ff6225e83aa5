// Text to token ids and back, from a Hugging Face tokenizer.json.

const WORD =
  /'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}/gu;
const SURROGATE = /[\ud800-\udfff]/u; // a lone one, which has no bytes

// The letter that stands for each byte in a byte-level vocabulary.
function lettersOfBytes() {
  const letters = [];
  let hidden = 256;
  for (let byte = 0; byte < 256; byte++) {
    const visible = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    letters.push(String.fromCodePoint(visible ? byte : hidden++));
  }
  return letters;
}

const LETTERS = lettersOfBytes();
const BYTES = new Map(LETTERS.map((letter, byte) => [letter, byte]));

export class Tokens {
  // `stored` is tokenizer.json, `config` config.json.
  constructor(stored, config) {
    this.vocabSize = config.vocab_size;
    this.stop = config.stop; // the token between documents, or null
    this.firsts = config.firsts; // a text may begin with tokens from the first to before the second
    this.separator = stored.added_tokens.map((token) => token.content).join("");
    this.ids = new Map(Object.entries(stored.model.vocab));
    this.tokens = [];
    for (const [token, id] of this.ids) this.tokens[id] = token;
    this.ranks = new Map(stored.model.merges.map((pair, rank) => [pair.join(" "), rank]));
    this.hasBytes = stored.pre_tokenizer !== null;
  }

  // The ids of a text; what the vocabulary cannot express is left out.
  encode(text) {
    const ids = [];
    const parts = this.separator ? text.split(this.separator) : [text];
    parts.forEach((part, index) => {
      if (index) ids.push(this.stop);
      for (const piece of part.split(SURROGATE)) {
        const tokens = this.hasBytes ? this.#ofWords(piece) : [...piece];
        for (const token of tokens) ids.push(...this.#known(token));
      }
    });
    return ids;
  }

  #ofWords(text) {
    return (text.match(WORD) ?? []).flatMap((word) => this.#merge(new TextEncoder().encode(word)));
  }

  #merge(bytes) {
    const parts = Array.from(bytes, (byte) => LETTERS[byte]);
    for (;;) {
      let [first, lowest] = [-1, Infinity];
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = this.ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity;
        if (rank < lowest) [first, lowest] = [i, rank];
      }
      if (first < 0) return parts;
      parts.splice(first, 2, parts[first] + parts[first + 1]);
    }
  }

  // The ids of the longest known tokens that a token begins with, one after the other.
  #known(token) {
    const ids = [];
    while (token) {
      let length = token.length;
      while (length && !(this.ids.get(token.slice(0, length)) < this.vocabSize)) length--;
      if (length) ids.push(this.ids.get(token.slice(0, length)));
      token = token.slice(length || 1);
    }
    return ids;
  }

  // The UTF-8 bytes of a token, perhaps only part of a character.
  bytes(id) {
    const token = this.tokens[id] ?? this.separator; // of one letter, it has that byte's name
    if (id === this.stop || !this.hasBytes) return new TextEncoder().encode(token);
    return Uint8Array.from(token, (letter) => BYTES.get(letter));
  }
}
