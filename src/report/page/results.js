// The tables of the aggregates: for reading, a line per group and a column per metric; or every statistic, as they are kept.

/** Whether each table is shown with all statistics, by its name. */
const inFull = new Map();

function results() {
  const parts = page.tables.map((one) => {
    const name = titleOf(one);
    const wide = pivoted(one);
    const part = el('article', { id: `table-${name}` });
    const draw = () => {
      const full = !wide || inFull.get(name);
      const toggle =
        wide &&
        el(
          'button',
          { type: 'button', class: 'plain', 'aria-pressed': String(Boolean(full)), onclick: flip },
          'All statistics',
        );
      const drawn = full ? tidy(one, name) : wide(name);
      part.replaceChildren(el('h3', {}, name, toggle || null), el('p', { class: 'about' }, about(one, full)), drawn);
    };
    const flip = () => {
      inFull.set(name, !inFull.get(name));
      draw();
      part.querySelector('h3 button').focus();
    };
    draw();
    return part;
  });
  section('tables', parts);
}

/** `aggregate.curve`, for what else it has made `aggregate.curve: statistics`. */
const titleOf = ({ instance, name }) => (name === 'table' ? instance : `${instance}: ${name}`);

function about({ unit, where, limits, rows, sets }, full) {
  const parts = [];
  if (rows.length === 0) parts.push('The table has no row.');
  if (!full) parts.push('Means, with 95% intervals where there are any.');
  if (unit) parts.push(`Each counts by ${[unit].flat().join(' and ')}.`);
  if (where) parts.push(`Of the rows where ${where}.`);
  if (limits) parts.push(`At most ${limits}.`);
  if (sets.length > 0) parts.push('A cell opens the rows behind it.');
  return parts.join(' ');
}

/** Fills a section of the page, or hides it if there is nothing. */
function section(id, parts) {
  const element = find(id);
  element.hidden = parts.length === 0;
  element.replaceChildren(element.firstElementChild, ...parts);
}

/** All of a table but the columns that are empty. */
function tidy(one, name) {
  const some = (test) => (place) => one.rows.some((row) => test(row[place]));
  const isFilled = some((value) => value !== null);
  const isNumber = some((value) => typeof value === 'number');
  const isReal = some((value) => typeof value === 'number' && !Number.isInteger(value));
  const places = [...one.columns.keys()].filter((place) => one.rows.length === 0 || isFilled(place));
  const columns = places.map((place) => ({ name: one.columns[place], number: isNumber(place) }));
  const real = places.map(isReal);
  const rows = one.rows.map((row) => ({ cells: places.map((place, at) => cellOf(row[place], real[at])), row }));
  const open = (row, column) => browse(queryOf(one, row.row, one.columns[places[column]]));
  return table(name, columns, rows, one.sets.length > 0 && open);
}

/** The same with a column per metric; null if the table has no metrics or no means. */
function pivoted(one) {
  const [metric, mean, low, high, size, nulls] = ['metric', 'mean', 'ci_low', 'ci_high', 'count', 'nulls'].map(
    (column) => one.columns.indexOf(column),
  );
  if (metric < 0 || mean < 0) return null;
  const metrics = [...new Set(one.rows.map((row) => row[metric]))];
  const groups = new Map();
  for (const row of one.rows) {
    const group = JSON.stringify(row.slice(0, metric));
    if (!groups.has(group)) groups.set(group, new Map());
    groups.get(group).set(row[metric], row);
  }
  const real = new Set(one.rows.filter((row) => !Number.isInteger(row[mean] ?? 0)).map((row) => row[metric]));
  const cell = (row) => {
    if (!row) return { text: '', value: null };
    const value = row[mean];
    const details = [`mean ${value ?? 'undefined'}`];
    if (row[low] !== null && row[low] !== undefined) details.push(`95% interval [${row[low]}, ${row[high]}]`);
    if (size >= 0) details.push(`count ${row[size]}`);
    if (row[nulls] > 0) details.push(`${row[nulls]} without a value`);
    return {
      text: shown(value, real.has(row[metric])),
      value,
      note: interval(value, row[low], row[high]),
      title: details.join('; '),
    };
  };
  return (name) => {
    const by = one.columns.slice(0, metric);
    const columns = [
      ...by.map((column, place) => ({ name: column, number: one.rows.every((row) => typeof row[place] === 'number') })),
      ...metrics.map((column) => ({ name: shown(column), number: true })),
    ];
    const rows = [...groups.values()].map((group) => {
      const any = group.values().next().value;
      return {
        cells: [
          ...any.slice(0, metric).map((value) => cellOf(value)),
          ...metrics.map((column) => cell(group.get(column))),
        ],
        any,
        group,
      };
    });
    const open = (row, column) => {
      const picked = row.group.get(metrics[column - by.length]);
      browse(queryOf(one, picked ?? row.any, picked ? 'metric' : by[column]));
    };
    return table(name, columns, rows, one.sets.length > 0 && open);
  };
}

/** ` ± half` of an even interval, else both of its ends. */
function interval(mean, low, high) {
  if (mean === null || low === null || low === undefined || high === null || high === undefined) return null;
  const [below, above] = [mean - low, high - mean];
  const isEven = Math.abs(below - above) <= 1e-6 * Math.max(Math.abs(below), Math.abs(above));
  return isEven ? ` ± ${number((high - low) / 2)}` : ` [${number(low)}, ${number(high)}]`;
}

/** The question for the rows behind a cell: its group, and the metric that its row, its column or itself names. */
function queryOf(one, row, column) {
  const known = new Set(page.sets.flatMap(({ metrics }) => metrics));
  const isGroup = (name) => (one.by ? one.by.includes(name) : one.sets.some((key) => isNamed(key, name)));
  const cell = (name) => row[one.columns.indexOf(name)];
  const by = Object.fromEntries(one.columns.filter(isGroup).map((name) => [name, cell(name)]));
  const candidates = isGroup(column) ? [] : [cell('metric'), column, cell(column)];
  return { table: titleOf(one), by, metric: candidates.find((name) => known.has(name)) ?? null };
}

const setOf = (key) => page.sets.find((set) => set.key === key);

/** Whether a set has an axis or a column of that name. */
function isNamed(key, name) {
  const set = setOf(key);
  return set !== undefined && (name in set.axes || set.columns.includes(name));
}
