// A table that is sorted by its headers and searched, and whose cells open what is behind them.
//
// To the keyboard its cells are one stop: arrows go from cell to cell, Enter opens.

/** Rows among which nobody searches. */
const FEW = 5;
/** Rows that are put into the document at once. */
const SHOWN_ROWS = 300;

/** How each table was sorted and searched, by its name and columns: it is drawn again when a run goes on. */
const manners = new Map();

/**
 * `columns`: `{ name, number?, title? }`; `rows`: `{ cells: [{ text, value?, title?, note? }], … }`;
 * `open(row, column)`: what a cell does, if it does something.
 */
function table(name, columns, rows, open) {
  const id = JSON.stringify([name, columns.map((column) => column.name)]);
  const manner = manners.get(id) ?? { by: null, down: false, words: '', all: false };
  manners.set(id, manner);
  const body = el('tbody');
  const heads = columns.map((column, place) => head(column, () => sortBy(place)));
  const more = el('button', { type: 'button', class: 'more', hidden: true, onclick: () => all() });
  const tally = el('span', { class: 'tally' });
  const search = el('input', {
    type: 'search',
    placeholder: 'Search',
    'aria-label': `Search in ${name}`,
    value: manner.words,
  });
  const find = settled(() => {
    manner.words = search.value;
    fill();
    say(tally.textContent);
  });
  search.addEventListener('input', find);
  const grid = el(
    'table',
    open ? { role: 'grid', 'aria-label': name, onkeydown: move, onclick: press } : { 'aria-label': name },
    el('thead', {}, el('tr', {}, heads)),
    body,
  );

  function sortBy(place) {
    manner.down = manner.by === place ? !manner.down : false;
    manner.by = place;
    fill();
    say(`sorted by ${columns[place].name}, ${manner.down ? 'descending' : 'ascending'}`);
  }

  function all() {
    manner.all = true;
    fill();
    body.rows[SHOWN_ROWS]?.cells[0].focus();
  }

  function fill() {
    const words = manner.words.trim().toLowerCase();
    const matches = (row) => row.cells.some((cell) => cell.text.toLowerCase().includes(words));
    const chosen = words === '' ? [...rows] : rows.filter(matches);
    if (manner.by !== null) chosen.sort(order(manner.by, manner.down));
    const some = manner.all ? chosen : chosen.slice(0, SHOWN_ROWS);
    body.replaceChildren(...some.map(line));
    const first = body.rows[0]?.cells[0];
    if (open && first) first.tabIndex = 0;
    heads.forEach((element, place) => {
      const sort = manner.by !== place ? 'none' : manner.down ? 'descending' : 'ascending';
      element.setAttribute('aria-sort', sort);
    });
    tally.textContent =
      chosen.length === rows.length
        ? count(rows.length, 'row')
        : `${grouped(chosen.length)} of ${count(rows.length, 'row')}`;
    more.hidden = some.length === chosen.length;
    more.textContent = `Show all ${grouped(chosen.length)}`;
  }

  function line(row) {
    const cells = row.cells.map((cell, place) => {
      const attributes = {
        class: columns[place].number ? 'number' : null,
        title: cell.title,
        tabindex: open ? '-1' : null,
      };
      return el('td', attributes, cell.text, cell.note ? el('span', { class: 'note' }, cell.note) : null);
    });
    const element = el('tr', { class: row.class ?? null }, cells);
    element.row = row;
    return element;
  }

  function press(event) {
    const cell = event.target.closest('td');
    if (cell && String(window.getSelection()) === '') open(cell.parentElement.row, cell.cellIndex);
  }

  function move(event) {
    const cell = event.target.closest('td');
    if (!cell) return;
    const [row, column] = [cell.parentElement.sectionRowIndex, cell.cellIndex];
    const last = body.rows.length - 1;
    const goal = {
      ArrowDown: [row + 1, column],
      ArrowUp: [row - 1, column],
      ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1],
      Home: [row, 0],
      End: [row, columns.length - 1],
      PageDown: [Math.min(row + 10, last), column],
      PageUp: [Math.max(row - 10, 0), column],
    }[event.key];
    if (event.key === 'Enter' || event.key === ' ') open(cell.parentElement.row, column);
    else if (!goal) return;
    event.preventDefault();
    const next = goal && body.rows[goal[0]]?.cells[goal[1]];
    if (!next) return;
    cell.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  fill();
  const tools = rows.length > FEW ? el('div', { class: 'tools' }, search, tally) : null;
  const region = open ? {} : { tabindex: '0', role: 'region', 'aria-label': `Table: ${name}` };
  const scroll = el('div', { class: 'scroll', ...region }, grid);
  return el('div', { class: 'table' }, tools, scroll, more);
}

function head(column, sort) {
  const button = el('button', { type: 'button', title: column.title, onclick: sort }, column.name);
  return el('th', { scope: 'col', class: column.number ? 'number' : null }, button);
}

/** Numbers by size, then texts by letter (numbers in them by size), what is null last whichever way. */
function order(place, down) {
  const key = (row) => row.cells[place].value ?? null;
  const text = new Intl.Collator('en', { numeric: true });
  return (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    const both = typeof x === 'number' && typeof y === 'number';
    const ascending = both ? x - y : text.compare(String(x), String(y));
    return down ? -ascending : ascending;
  };
}

/** A cell of a plain value. */
const cellOf = (value, real = false) => ({
  text: shown(value, real),
  value,
  title: typeof value === 'number' && !Number.isInteger(value) ? String(value) : null,
});
