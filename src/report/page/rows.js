// The rows behind a cell: which they are, in what order, and a list of them of which only what is seen is in the document.

const LINE = 46;
/** Browsers lay nothing out that is higher than about this. */
const HIGHEST = 8e6;
const SCORES_SHOWN = 3;

/** What is open: the question, its rows (`places`: set and row), those of them that are listed, and the one that is chosen. */
let opened = null;
/** What a search that takes long compares itself with: a newer one ends it. */
let asking = 0;

/** Opens the rows of a question: `{ table?, sets?, by, metric }`. */
function browse(query) {
  location.hash = `rows=${encodeURIComponent(JSON.stringify(query))}`;
}

function openFragment() {
  const text = location.hash.match(/^#rows=(.*)$/)?.[1];
  const dialog = find('browser');
  if (text === undefined) {
    if (dialog.open) dialog.close();
    return;
  }
  try {
    const { table: name, sets: keys, by, metric } = JSON.parse(decodeURIComponent(text));
    const asked = name ? page.tables.find((one) => titleOf(one) === name) : null;
    show({
      keys: keys ?? asked?.sets ?? [],
      by: by ?? {},
      metric: metric ?? null,
      where: asked?.where,
      limits: asked?.limits,
    });
  } catch {
    say('the address names no rows');
  }
}

function show(query) {
  const dialog = find('browser');
  const chosen = query.keys.map(setOf).filter(Boolean);
  const fitting = chosen.filter((set) =>
    Object.entries(query.by).every(([name, value]) => !(name in set.axes) || set.axes[name] === value),
  );
  const metrics = [...new Set(fitting.flatMap((set) => set.metrics))];
  if (query.metric) metrics.sort((a, b) => (b === query.metric) - (a === query.metric));
  const known = (name) => fitting.some((set) => isNamed(set.key, name));
  opened = {
    query,
    fitting,
    metrics: metrics.slice(0, SCORES_SHOWN),
    all: metrics,
    places: [],
    listed: [],
    at: 0,
    words: '',
    changed: false,
    order: 'rows',
    strange: Object.keys(query.by).filter((name) => !known(name) && query.by[name] !== null),
  };
  opened.parts = frame();
  dialog.replaceChildren(...opened.parts.all);
  if (!dialog.open) dialog.showModal();
  opened.parts.list.focus();
  gather();
}

/** The dialog without rows. */
function frame() {
  const { query, metrics, all, strange, fitting } = opened;
  const by = Object.entries(query.by).map(([name, value]) => `${name} = ${value === null ? 'nothing' : value}`);
  const title = [query.metric, ...by].filter(Boolean).join(', ') || fitting.map((set) => set.name).join(', ') || 'Rows';
  const notes = strange.map((name) => `The rows have no ${name}: those of all its values are shown.`);
  const about = el('p', { class: 'about', id: 'rows-about' });
  const search = el('input', {
    type: 'search',
    placeholder: 'Search in all texts',
    'aria-label': 'Search in all texts',
    oninput: settled(() => narrow({ words: search.value.trim().toLowerCase() }), 250),
  });
  const choices = [
    ['rows', 'in the order of the rows'],
    ...all.flatMap((metric) => [
      [`+${metric}`, `${metric}, lowest first`],
      [`-${metric}`, `${metric}, highest first`],
    ]),
  ];
  const sort = el(
    'select',
    { 'aria-label': 'Order', onchange: () => narrow({ order: sort.value }) },
    choices.map(([value, text]) => el('option', { value }, text)),
  );
  const box = el('input', { type: 'checkbox', onchange: () => narrow({ changed: box.checked }) });
  const changed = fitting.some((set) => set.before)
    ? el('label', { class: 'check' }, box, ` only answers that differ from run ${page.against?.id ?? ''}`)
    : null;
  const close = el('button', { type: 'button', class: 'close', onclick: () => shut() }, 'Close');
  const layer = el('div', { class: 'layer', role: 'rowgroup' });
  const heads = ['System', 'Prompt', 'Reference', 'Answer', ...metrics].map((name, place) =>
    el('div', { role: 'columnheader', class: place > 3 ? 'number' : null }, name),
  );
  const spacer = el('div', { class: 'spacer', role: 'presentation' }, layer);
  const list = el(
    'div',
    {
      class: 'list',
      role: 'grid',
      tabindex: '0',
      'aria-label': `Rows: ${title}`,
      'aria-describedby': 'rows-about',
      onscroll: () => requestAnimationFrame(paint),
      onkeydown: step,
      onclick: pick,
    },
    el(
      'div',
      { role: 'rowgroup', class: 'heads' },
      el('div', { role: 'row', 'aria-rowindex': '1', class: 'line' }, heads),
    ),
    spacer,
  );
  list.style.setProperty('--scores', metrics.length);
  const detail = el('article', { class: 'detail', tabindex: '-1', 'aria-label': 'The chosen row' });
  return {
    list,
    layer,
    spacer,
    about,
    detail,
    notes,
    all: [
      el(
        'header',
        {},
        el('h2', { id: 'h-browser' }, plain(title)),
        close,
        el('div', { class: 'tools' }, search, sort, changed),
        about,
      ),
      el('div', { class: 'panes' }, list, detail),
    ],
  };
}

function shut() {
  history.replaceState(null, '', location.pathname + location.search);
  find('browser').close();
}

find('browser').addEventListener('close', () => {
  asking += 1;
  opened = null;
  if (location.hash.startsWith('#rows=')) history.replaceState(null, '', location.pathname + location.search);
});

/** Finds the rows of the question. */
async function gather() {
  asking += 1;
  const mine = asking;
  const own = opened;
  own.parts.about.textContent = 'Unpacking the rows …';
  try {
    const all = await Promise.all(own.fitting.map((set) => rowsOf(set.key)));
    if (mine !== asking) return;
    own.all_rows = all;
    own.places = [];
    own.fitting.forEach((set, place) => {
      const columns = Object.entries(own.query.by).filter(
        ([name]) => !(name in set.axes) && !own.strange.includes(name),
      );
      const kept = all[place].kept[own.query.where];
      const matches = (row) =>
        kept?.[row] !== false && columns.every(([name, value]) => (all[place].columns[name]?.[row] ?? null) === value);
      for (let row = 0; row < all[place].rows; row += 1) if (matches(row)) own.places.push([place, row]);
    });
    const { where } = own.query;
    const isToldOf = ([place, row]) => (all[place].kept[where]?.[row] ?? null) !== null;
    if (own.query.limits)
      own.parts.notes.push(`The table counts at most ${own.query.limits}: the others are shown, too.`);
    if (where)
      own.parts.notes.push(
        own.places.every(isToldOf)
          ? `Of the rows where ${where}.`
          : `The table counts rows where ${where}, which cannot be told of all of these.`,
      );
    await narrow({});
  } catch (error) {
    own.parts.about.textContent = `The rows cannot be shown: ${error.message}`;
  }
}

/** Lists those of the rows that a search or a mark asks for, in an order. */
async function narrow(change) {
  // A search that was typed just before it was closed.
  if (!opened) return;
  Object.assign(opened, change);
  asking += 1;
  const mine = asking;
  const own = opened;
  const goesOn = () => mine === asking && own === opened;
  let listed = own.places;
  if (own.changed) listed = listed.filter(([place, row]) => differs(own.all_rows[place], row));
  if (own.words) {
    own.parts.about.textContent = 'Searching …';
    listed = await searched(listed, own, goesOn);
    if (!goesOn()) return;
  }
  if (own.order !== 'rows') {
    const [metric, sign] = [own.order.slice(1), own.order.startsWith('-') ? -1 : 1];
    const key = ([place, row]) => own.all_rows[place].scores[metric]?.[row] ?? null;
    const compare = (x, y) => (x === null || y === null ? (x === null) - (y === null) : sign * (x - y));
    listed = listed
      .map((place) => [key(place), place])
      .sort((a, b) => compare(a[0], b[0]))
      .map(([, place]) => place);
  }
  own.listed = listed;
  own.at = 0;
  own.parts.list.setAttribute('aria-rowcount', listed.length + 1);
  own.parts.spacer.style.height = `${Math.min(listed.length * LINE, HIGHEST)}px`;
  own.parts.list.scrollTop = 0;
  own.parts.about.textContent = [summary(own), ...own.parts.notes].join(' ');
  say(summary(own));
  paint();
  choose(0);
}

function summary({ places, listed, fitting, metrics, all_rows: all }) {
  const parts = [
    listed.length === places.length
      ? count(places.length, 'row')
      : `${grouped(listed.length)} of ${count(places.length, 'row')}`,
  ];
  if (fitting.length > 1) parts[0] += ` of ${count(fitting.length, 'system')}`;
  const values = metrics.length
    ? listed.map(([place, row]) => all[place].scores[metrics[0]]?.[row] ?? null).filter((value) => value !== null)
    : [];
  if (values.length) parts.push(`mean ${metrics[0]} ${number(values.reduce((a, b) => a + b, 0) / values.length)}`);
  if (metrics.length && values.length < listed.length)
    parts.push(`${grouped(listed.length - values.length)} without a value`);
  return `${parts.join('; ')}.`;
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

const differs = ({ columns, before }, row) =>
  (before.prediction?.[row] ?? null) !== null && !same(before.prediction[row], columns.prediction?.[row]);

async function searched(listed, own, goesOn) {
  const wanted = new Set();
  const cells = (place, row) => Object.values(own.all_rows[place].columns).map((column) => column[row]);
  for (const [place, row] of listed) for (const cell of cells(place, row)) if (Array.isArray(cell)) wanted.add(cell[0]);
  const found = await textsWith(own.words, wanted, goesOn);
  const holds = (cell) =>
    Array.isArray(cell) ? found.has(cell[0]) : cell !== null && String(cell).toLowerCase().includes(own.words);
  return listed.filter(([place, row]) => cells(place, row).some(holds));
}

/** The number of the first row that is seen, and how far its line is from the top of all. */
function scrolled() {
  const { list, spacer } = opened.parts;
  const room = Math.max(1, spacer.clientHeight - list.clientHeight);
  const rows = Math.max(0, opened.listed.length - Math.floor(list.clientHeight / LINE));
  const isWhole = opened.listed.length * LINE <= HIGHEST;
  const first = isWhole ? Math.floor(list.scrollTop / LINE) : Math.floor((list.scrollTop / room) * rows);
  return { first, top: isWhole ? first * LINE : list.scrollTop };
}

/** Puts the lines that are seen into the document. */
function paint() {
  if (!opened) return;
  const { list, layer } = opened.parts;
  const { first, top } = scrolled();
  const number = Math.ceil(list.clientHeight / LINE) + 2;
  const from = Math.max(0, first - 2);
  layer.style.transform = `translateY(${top - (first - from) * LINE}px)`;
  const old = new Map([...layer.children].map((line) => [line.dataset.at, line]));
  const lines = [];
  for (let at = from; at < Math.min(opened.listed.length, first + number); at += 1) {
    const place = opened.listed[at];
    const kept = old.get(String(at));
    const line = kept?.place === place ? kept : lineOf(at, place);
    line.setAttribute('aria-selected', String(at === opened.at));
    lines.push(line);
  }
  layer.replaceChildren(...lines);
}

function lineOf(at, [place, row]) {
  const set = opened.fitting[place];
  const { columns, scores } = opened.all_rows[place];
  const texts = [columns.input?.[row] || columns.instruction?.[row], columns.output?.[row], columns.prediction?.[row]];
  const cells = texts.map((cell) => {
    const element = el('div', { role: 'gridcell' });
    if (Array.isArray(cell))
      text(cell).then((whole) => {
        element.textContent = preview(whole);
      });
    else element.textContent = preview(cell);
    return element;
  });
  const values = opened.metrics.map((metric) =>
    el('div', { role: 'gridcell', class: 'number' }, shown(scores[metric]?.[row])),
  );
  const line = el(
    'div',
    { role: 'row', class: 'line', id: `line-${at}`, 'aria-rowindex': String(at + 2), 'data-at': String(at) },
    el('div', { role: 'gridcell', class: 'system' }, label(set)),
    cells,
    values,
  );
  line.place = opened.listed[at];
  return line;
}

const preview = (cell) =>
  cell === null || cell === undefined ? '—' : plain(String(cell).slice(0, 300)).replace(/\s+/g, ' ');

/** A set by its axes; where it has none, by its name. */
function label(set) {
  const axes = Object.entries(set.axes).map(([name, value]) => `${name}=${value}`);
  return plain(axes.join(', ') || set.name);
}

function pick(event) {
  const line = event.target.closest('.line[data-at]');
  if (line) choose(Number(line.dataset.at));
}

function step(event) {
  const last = opened.listed.length - 1;
  const number = Math.max(1, Math.floor(opened.parts.list.clientHeight / LINE) - 1);
  const goal = {
    ArrowDown: opened.at + 1,
    ArrowUp: opened.at - 1,
    PageDown: opened.at + number,
    PageUp: opened.at - number,
    Home: 0,
    End: last,
  }[event.key];
  if (event.key === 'Enter') opened.parts.detail.focus();
  else if (goal === undefined) return;
  else choose(Math.max(0, Math.min(last, goal)));
  event.preventDefault();
}

/** Chooses a listed row: it is seen in the list, and its whole beside it. */
function choose(at) {
  const { list, detail, spacer } = opened.parts;
  opened.at = at;
  const place = opened.listed[at];
  if (!place) {
    detail.replaceChildren();
    return;
  }
  const isWhole = opened.listed.length * LINE <= HIGHEST;
  const room = list.clientHeight - 2 * LINE;
  const top = isWhole ? at * LINE : (at / opened.listed.length) * (spacer.clientHeight - list.clientHeight);
  if (top < list.scrollTop || top > list.scrollTop + (isWhole ? room : 0))
    list.scrollTop = top < list.scrollTop ? top : top - (isWhole ? room : 0);
  paint();
  list.setAttribute('aria-activedescendant', `line-${at}`);
  detailOf(opened.fitting[place[0]], opened.all_rows[place[0]], place[1], at);
}
