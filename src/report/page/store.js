// What the page holds: one document that is read at once, and rows in packed pieces that are read when they are needed.

let page = JSON.parse(find('page').textContent);
const served = find('page').dataset.served === '';

async function fetched(path) {
  const answer = await fetch(path, { cache: 'no-store' });
  if (!answer.ok) throw new Error(`titer answers ${answer.status}`);
  return answer;
}

/** The bytes of a piece: of the server, or of an inert element of this document. */
async function bytes(name) {
  if (served) return (await fetched(`/pieces/${name}`)).arrayBuffer();
  await parsed;
  const element = find(name);
  if (!element) throw new Error('a part of this file is missing: it was cut off');
  const text = atob(element.textContent);
  const all = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) all[i] = text.charCodeAt(i);
  return all;
}

async function unpacked(name) {
  const packed = new Blob([await bytes(name)]).stream();
  return new Response(packed.pipeThrough(new DecompressionStream('deflate-raw'))).json();
}

const parsed = new Promise((resolve) => {
  if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', resolve);
  else resolve();
});

const sets = new Map();

/** The rows of a set, by columns. Long texts are `[number]`: see `texts`. */
function rowsOf(key) {
  if (!sets.has(key)) {
    const loading = load(key);
    loading.catch(() => sets.delete(key));
    sets.set(key, loading);
  }
  return sets.get(key);
}

async function load(key) {
  const pieces = page.index.sets[key];
  if (!pieces) throw new Error('these rows are not there yet');
  const parts = await Promise.all(pieces.map(([name]) => unpacked(name)));
  const whole = { rows: pieces.reduce((sum, [, rows]) => sum + rows, 0) };
  for (const group of ['columns', 'scores', 'before', 'before_scores', 'kept']) {
    whole[group] = {};
    const names = new Set(parts.flatMap((part) => Object.keys(part[group])));
    for (const name of names) {
      whole[group][name] = parts.flatMap((part) => part[group][name] ?? new Array(part.rows).fill(null));
    }
  }
  return whole;
}

/** Pieces of texts that were used last. */
const recent = new Map();
const KEPT = 24;

function piece(number) {
  const name = `t${number}`;
  const loading = recent.get(name) ?? unpacked(name);
  recent.delete(name);
  recent.set(name, loading);
  if (recent.size > KEPT) recent.delete(recent.keys().next().value);
  return loading;
}

/** The number of the piece that holds a text. */
function pieceOf(starts, text) {
  let [low, high] = [0, starts.length];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (starts[middle] <= text) low = middle;
    else high = middle;
  }
  return low;
}

/** A cell as text; null if there is nothing. */
async function text(cell) {
  if (cell === null || cell === undefined) return null;
  if (!Array.isArray(cell)) return String(cell);
  const { texts } = page.index;
  const place = pieceOf(texts, cell[0]);
  return (await piece(place))[cell[0] - texts[place]];
}

/** Which of all long texts hold the (lower-case) words: asked piece by piece, so that they are never all in memory. */
async function textsWith(words, wanted, goesOn) {
  const { texts } = page.index;
  const places = [...new Set([...wanted].map((number) => pieceOf(texts, number)))];
  const found = new Set();
  for (const place of places) {
    const list = await unpacked(`t${place}`);
    if (!goesOn()) return found;
    list.forEach((one, at) => {
      if (one.toLowerCase().includes(words)) found.add(texts[place] + at);
    });
  }
  return found;
}
