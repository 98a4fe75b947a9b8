// What was asked and what became of it: the head of the page, warnings, the graph, the instances, the manifests.

function headOfPage() {
  const { pipeline, manifest, options, run } = page;
  document.title = `${pipeline}: report`;
  find('title').textContent = pipeline;
  const words = [[manifest, ...options].join(' ')];
  if (!run) words.push('has not run yet');
  else {
    words.push(
      `run ${run.id}`,
      moment(run.started),
      `${run.outcome}${run.state === 'running' ? '' : ` in ${duration(run.seconds)}`}`,
      tally(run.counts),
    );
    if (run.saved_seconds >= 0.1) words.push(`the cache saved ${duration(run.saved_seconds)}`);
    if (run.host) words.push(`${run.host} (${run.cpu})`);
    words.push(`titer ${run.titer}`);
    if (run.git) words.push(`git ${run.git}`);
  }
  find('about').replaceChildren(...words.filter(Boolean).map((word) => el('span', {}, plain(word))));
  const named = [...document.querySelectorAll('main > section')].filter((part) => !part.hidden);
  const entry = (part) => el('li', {}, el('a', { href: `#${part.id}` }, part.querySelector('h2').textContent));
  find('contents').replaceChildren(...named.map(entry));
  find('made').textContent =
    `Made by titer ${page.titer} at ${moment(page.made)}. This page asks nothing of the network.`;
}

const tally = (counts) =>
  ['ran', 'cached', 'fetched', 'shared', 'failed', 'blocked', 'unfinished']
    .filter((name) => counts[name] > 0)
    .map((name) => `${grouped(counts[name])} ${name}`)
    .join(', ');

/** Warnings of one kind that are listed before the rest is folded. */
const LISTED = 8;

function warnings() {
  const item = ({ about, text }) => el('li', {}, about ? el('b', {}, about) : null, about ? ': ' : null, worded(text));
  const rest = page.warnings.slice(LISTED);
  const folded = el('details', {}, el('summary', {}, count(rest.length, 'more warning')), el('ul', {}, rest.map(item)));
  const list = el('ul', {}, page.warnings.slice(0, LISTED).map(item));
  section('warnings', page.warnings.length ? [list, rest.length ? folded : null].filter(Boolean) : []);
}

function systems() {
  const isCompared = page.sets.some((set) => set.before);
  const columns = [{ name: 'system' }, { name: 'rows', number: true }, { name: 'scores' }];
  if (isCompared) columns.push({ name: 'before' });
  const rows = page.sets.map((set) => {
    const cells = [cellOf(set.name), cellOf(set.rows), cellOf(set.metrics.join(', ') || null)];
    if (isCompared) cells.push(cellOf(set.before ? 'yes' : null));
    return { cells, key: set.key };
  });
  const about = ['Answers with what was asked and what was expected.'];
  if (page.against) about.push(`Compared with run ${page.against.id} of ${moment(page.against.started)}.`);
  const open = (row) => browse({ sets: [row.key], by: {}, metric: null });
  section(
    'systems',
    rows.length ? [el('p', { class: 'about' }, about.join(' ')), table('Systems', columns, rows, open)] : [],
  );
}

/** What stands in a stage's line for how far it is. */
const STATES = [
  'failed',
  'running',
  'ran',
  'ran again',
  'fetched',
  'shared',
  'cached',
  'in the shared cache',
  'blocked',
  'unfinished',
  'will run',
  'waits',
];

function stages() {
  const groups = new Map();
  for (const one of page.instances) groups.set(one.stage, [...(groups.get(one.stage) ?? []), one]);
  const byStage = [...groups].map(([stage, list]) => {
    const states = STATES.map((state) => [list.filter((one) => one.state === state).length, state]).filter(
      ([number]) => number > 0,
    );
    const seconds = list.reduce((sum, one) => sum + (one.seconds ?? 0), 0);
    const hosts = [...new Set(list.map(({ host }) => host).filter(Boolean))];
    const devices = [...new Set(list.map(({ device }) => device).filter(Boolean))];
    return {
      cells: [
        cellOf(stage),
        cellOf(list.length),
        {
          text: states
            .map(([number, state]) => `${number} ${state === 'waits' && number > 1 ? 'wait' : state}`)
            .join(', '),
          value: states[0]?.[1],
        },
        { text: seconds ? duration(seconds) : '—', value: seconds || null },
        cellOf(devices.join(', ') || null),
        cellOf(hosts.join(', ') || null),
      ],
    };
  });
  const names = [
    ['stage'],
    ['instances', true],
    ['state'],
    ['time', true, 'What its results took when they were made'],
    ['device'],
    ['machine'],
  ];
  const columns = names.map(([name, isNumber, title]) => ({ name, number: isNumber, title }));
  const graph = el(
    'figure',
    { class: 'graph' },
    el('img', {
      src: `data:image/svg+xml,${encodeURIComponent(page.graph)}`,
      alt: `The graph of the pipeline: ${[...groups.keys()].join(', ')}`,
      class: 'turned',
    }),
  );
  section('stages', [
    graph,
    table('Stages', columns, byStage),
    el('details', {}, el('summary', {}, count(page.instances.length, 'instance')), instances()),
  ]);
}

function instances() {
  const columns = ['instance', 'state', 'time', 'started', 'device', 'machine', 'remarks'].map((name) => ({
    name,
    number: name === 'time',
  }));
  const rows = page.instances.map((one) => {
    const remarks = [
      one.message,
      one.imported && 'imported',
      one.tries > 1 && `${one.tries} tries`,
      ...one.differing.map((name) => `${name} differs from the first run`),
      ...one.warnings,
    ];
    const device = [one.device, one.gpus].filter(Boolean).join(' ');
    return {
      class: one.state === 'failed' ? 'failed' : null,
      cells: [
        { ...cellOf(one.name), title: one.key && `key ${one.key}` },
        cellOf(one.state),
        { text: duration(one.seconds) || '—', value: one.seconds },
        { text: moment(one.started) || '—', value: one.started },
        cellOf(device || null),
        { ...cellOf(one.host), title: one.cpu },
        cellOf(remarks.filter(Boolean).join('; ') || null),
      ],
    };
  });
  return table('Instances', columns, rows);
}

function asked() {
  const parts = page.texts.map(({ name, text }, at) => {
    const listing = el('pre', { class: 'listing', tabindex: '0', 'aria-label': name }, visible(text));
    return el('details', { open: at === 0 }, el('summary', {}, plain(name)), listing);
  });
  if (page.options.length) parts.unshift(el('p', { class: 'about' }, `Called with ${page.options.join(' ')}.`));
  section('asked', parts);
}
