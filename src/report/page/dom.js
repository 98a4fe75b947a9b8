// Elements and words. What comes from data goes in as text, never as markup.

const find = (id) => document.getElementById(id);

/** Sets attributes; those that begin with `on` are listeners, and what is null or false is left out. */
function give(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  return element;
}

function el(tag, attributes, ...children) {
  const element = give(document.createElement(tag), attributes ?? {});
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function svg(tag, attributes, ...children) {
  const element = give(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes ?? {});
  element.append(...children.flat());
  return element;
}

/** Tells a screen reader something. */
function say(text) {
  find('said').textContent = text;
}

const LONG_RUN = 60;

/** `1.2 s`, `3 min 20 s`, `2 h 05 min`, as the command line has it. */
function duration(seconds) {
  if (seconds === null || seconds === undefined) return '';
  if (seconds < LONG_RUN) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const two = (number) => String(number).padStart(2, '0');
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor(whole / 60) % 60)} min`;
}

const count = (number, thing) => `${grouped(number)} ${thing}${number === 1 ? '' : 's'}`;

const grouped = (number) => number.toLocaleString('en');

/** A time in RFC 3339 to the second. */
const moment = (time) => (time ? time.replace(/\.\d+(?=Z|[+-])/, '').replace('T', ' ') : '');

/**
 * A number as a table shows it; all of its digits are in the cell's title. `real`: it stands among numbers that are not
 * whole.
 */
function number(value, real = false) {
  if (Number.isInteger(value) && !real) return String(value).replace('-', '−');
  const size = Math.abs(value);
  const text = (size < 1e-4 && size > 0) || size >= 1e6 ? value.toExponential(2) : value.toFixed(size < 100 ? 4 : 2);
  return text.replaceAll('-', '−');
}

/** A value as a table shows it: what is null is a dash. */
function shown(value, real = false) {
  if (value === null || value === undefined) return '—';
  if (typeof value === 'number') return number(value, real);
  return plain(typeof value === 'string' ? value : JSON.stringify(value));
}

/** Characters that are not seen, or that turn what stands after them around. */
const UNSEEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/gu;

const code = (character) => `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}`;

/** A text on one line of a list, every character seen. */
const plain = (text) => text.replace(UNSEEN, (character) => (character === '\r' ? '' : `⟨${code(character)}⟩`));

/** A text as nodes, line breaks kept, every character seen. */
function visible(text) {
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(UNSEEN)) {
    if (match.index > from) nodes.push(text.slice(from, match.index));
    from = match.index + match[0].length;
    if (match[0] === '\r') continue;
    nodes.push(el('span', { class: 'unseen-character' }, code(match[0])));
  }
  if (from < text.length) nodes.push(text.slice(from));
  return nodes;
}

/** A message, with what stands between backticks as code. */
const worded = (text) =>
  plain(text)
    .split('`')
    .map((part, at) => (at % 2 ? el('code', {}, part) : part));

/** Calls `work` once things have been quiet for a moment. */
function settled(work, milliseconds = 150) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), milliseconds);
  };
}
