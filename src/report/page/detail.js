// One row as a whole: what was asked, what was expected, what was answered, by one system or by two side by side.

/** Columns that have a place of their own. */
const TEXTS = ['id', 'instruction', 'input', 'output', 'prediction'];

/** The system that the chosen rows are compared with; stays from row to row. */
let beside = null;

async function detailOf(set, rows, row, at) {
  const own = opened;
  const other = await counterpart(set, rows, row);
  const column = (source, name, place) => text(source[name]?.[place]);
  const [instruction, input, reference, answer] = await Promise.all(
    TEXTS.slice(1).map((name) => column(rows.columns, name, row)),
  );
  const [earlier, second] = await Promise.all([
    column(rows.before, 'prediction', row),
    other ? column(other.rows.columns, 'prediction', other.row) : null,
  ]);
  const more = await Promise.all(
    Object.keys(rows.columns)
      .filter((name) => !TEXTS.includes(name))
      .map(async (name) => [name, await column(rows.columns, name, row)]),
  );
  if (own !== opened || own.at !== at) return;
  const answers = [{ name: label(set), text: answer, scores: (metric) => rows.scores[metric]?.[row] }];
  if (other)
    answers.push({ name: label(other.set), text: second, scores: (metric) => other.rows.scores[metric]?.[other.row] });
  else if (beside && beside !== set.key && setOf(beside))
    answers.push({
      name: label(setOf(beside)),
      text: null,
      absent: 'This system has no such row.',
      scores: () => null,
    });
  if (set.before)
    answers.push({
      name: `before, in run ${page.against?.id ?? ''}`,
      text: earlier,
      absent: earlier === null ? 'The earlier run has no such row.' : null,
      scores: (metric) => rows.before_scores[metric]?.[row],
    });
  const id = rows.columns.id?.[row];
  own.parts.detail.replaceChildren(
    el(
      'p',
      { class: 'about' },
      `Row ${grouped(at + 1)} of ${grouped(own.listed.length)}`,
      id ? ` · ${plain(await text(id))}` : '',
    ),
    systemChoice(set, rows, row, at),
    ...[
      ['Instruction', instruction],
      ['Input', input],
      ['Reference', reference],
    ]
      .filter(([, whole]) => whole !== null && whole !== '')
      .flatMap(([name, whole]) => [el('h3', {}, name), el('div', { class: 'text' }, visible(whole))]),
    el('h3', {}, answers.length > 1 ? 'Answers' : 'Answer'),
    el(
      'div',
      { class: 'answers' },
      answers.map((one, place) => answered(one, answers[place === 0 ? 1 : 0], answers.length > 1)),
    ),
    scoresOf(set, answers),
    others(more),
  );
  own.parts.detail.scrollTop = 0;
}

function answered(one, against, isNamed) {
  const name = isNamed ? el('h4', {}, one.name) : null;
  if (one.absent || one.text === null)
    return el('div', {}, name, el('p', { class: 'about' }, one.absent ?? 'No answer.'));
  const body = isNamed && against?.text ? marked(one.text, against.text) : visible(one.text);
  return el('div', {}, name, el('div', { class: 'text' }, one.text === '' ? el('i', {}, 'empty') : body));
}

/** The same row of the system that is compared with. */
async function counterpart(set, rows, row) {
  if (!beside || beside === set.key || !setOf(beside)) return null;
  const other = await rowsOf(beside);
  const place = (whole) => (whole.places ??= placesOf(whole.columns.id ?? []));
  const [id, occurrence] = place(rows).of[row] ?? [];
  const found = place(other).by.get(id)?.[occurrence];
  return found === undefined ? null : { set: setOf(beside), rows: other, row: found };
}

/** Rows by their ids: of one id there may be several, which are told apart by their order. */
function placesOf(ids) {
  const by = new Map();
  const of = ids.map((id, row) => {
    const key = JSON.stringify(id);
    if (!by.has(key)) by.set(key, []);
    return [key, by.get(key).push(row) - 1];
  });
  return { by, of };
}

function systemChoice(set, rows, row, at) {
  const rest = page.sets.filter((one) => one.key !== set.key);
  if (rest.length === 0) return null;
  const choice = el(
    'select',
    {
      onchange: () => {
        beside = choice.value || null;
        detailOf(set, rows, row, at);
      },
    },
    el('option', { value: '' }, 'nothing'),
    rest.map((one) => el('option', { value: one.key, selected: one.key === beside }, plain(one.name))),
  );
  return el('label', { class: 'beside' }, 'Beside it: ', choice);
}

function scoresOf(set, answers) {
  const metrics = [...new Set([...set.metrics, ...(beside ? (setOf(beside)?.metrics ?? []) : [])])];
  if (metrics.length === 0) return null;
  const line = (metric) => {
    const values = answers.map((one) => one.scores(metric) ?? null);
    const gaps = values.slice(1).map((value) => (value === null || values[0] === null ? null : values[0] - value));
    const cell = (value) => el('td', { class: 'number', title: value === null ? null : String(value) }, shown(value));
    const gap = (value) =>
      el('td', { class: 'number' }, value === null ? '—' : `${value > 0 ? '+' : ''}${number(value)}`);
    return el(
      'tr',
      {},
      el('th', { scope: 'row' }, metric),
      cell(values[0]),
      values.slice(1).flatMap((value, place) => [cell(value), gap(gaps[place])]),
    );
  };
  const head = (name) => el('th', { scope: 'col', class: 'number' }, name);
  const heads = answers.slice(1).flatMap((one) => [head(one.name), head('difference')]);
  return el(
    'div',
    {},
    el('h3', {}, 'Scores'),
    el(
      'div',
      { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Table: scores' },
      el(
        'table',
        {},
        el('thead', {}, el('tr', {}, el('td'), head(answers.length > 1 ? answers[0].name : 'value'), heads)),
        el('tbody', {}, metrics.map(line)),
      ),
    ),
  );
}

function others(more) {
  const rest = more.filter(([, whole]) => whole !== null);
  if (rest.length === 0) return null;
  return el(
    'div',
    {},
    el('h3', {}, 'Other columns'),
    el(
      'dl',
      {},
      rest.flatMap(([name, whole]) => [el('dt', {}, plain(name)), el('dd', {}, visible(whole))]),
    ),
  );
}

/** Words beyond which two texts are not compared: the time grows with the square. */
const COMPARED = 1500;

/** A text whose words are marked that the other one does not have in the same order. */
function marked(whole, other) {
  const split = (all) => all.split(/(\s+)/).filter(Boolean);
  const [a, b] = [split(whole), split(other)];
  if (whole === other || a.length > COMPARED || b.length > COMPARED) return visible(whole);
  const common = longest(a, b);
  const nodes = [];
  a.forEach((word, at) => {
    const inner = visible(word);
    nodes.push(...(common.has(at) || /^\s+$/.test(word) ? inner : [el('mark', {}, inner)]));
  });
  return nodes;
}

/** The places in `a` of a longest common subsequence with `b`. */
function longest(a, b) {
  const wide = b.length + 1;
  const lengths = new Uint16Array((a.length + 1) * wide);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      lengths[i * wide + j] =
        a[i] === b[j]
          ? lengths[(i + 1) * wide + j + 1] + 1
          : Math.max(lengths[(i + 1) * wide + j], lengths[i * wide + j + 1]);
    }
  }
  const places = new Set();
  for (let [i, j] = [0, 0]; i < a.length && j < b.length;) {
    if (a[i] === b[j]) {
      places.add(i);
      [i, j] = [i + 1, j + 1];
    } else if (lengths[(i + 1) * wide + j] >= lengths[i * wide + j + 1]) i += 1;
    else j += 1;
  }
  return places;
}
