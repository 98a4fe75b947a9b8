// Figures, as they were drawn; curves of trainings, drawn here.

function figures() {
  const parts = page.figures.map(({ instance, name, light, dark }) => {
    const picture = (source, kind) =>
      el('img', { src: source, alt: `Figure ${named(instance, name)}`, class: kind, loading: 'lazy' });
    const pictures = dark ? [picture(light, 'in-light'), picture(dark, 'in-dark')] : [picture(light, 'turned')];
    return el('figure', {}, pictures, el('figcaption', {}, named(instance, name)));
  });
  section('figures', parts.length ? [el('div', { class: 'gallery' }, parts)] : []);
}

/** A figure that is an instance of its own has no name besides. */
const named = (instance, name) => (name ? `${instance}: ${name}` : instance);

/** Curves that are drawn without being asked for. */
const DRAWN = 12;

function curves() {
  const parts = page.curves.slice(0, DRAWN).map(curve);
  const rest = page.curves.slice(DRAWN);
  const all = [];
  if (parts.length) {
    all.push(
      el(
        'p',
        { class: 'about' },
        'Loss by optimiser step: of the training rows in grey, of the validation rows in colour.',
      ),
    );
    all.push(el('div', { class: 'gallery' }, parts));
  }
  if (rest.length) {
    const gallery = el('div', { class: 'gallery' });
    const draw = () => gallery.childElementCount || gallery.append(...rest.map(curve));
    all.push(el('details', { ontoggle: draw }, el('summary', {}, `${count(rest.length, 'more curve')}`), gallery));
  }
  section('curves', all);
}

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [340, 200, 44, 26, 10, 10];

function curve({ instance, loss, validation }) {
  const points = [...loss, ...validation];
  const steps = scale([0, Math.max(1, ...points.map(([step]) => step))], [LEFT, WIDTH - RIGHT], false);
  const values = scale(extent(points.map(([, value]) => value)), [HEIGHT - BOTTOM, TOP], true);
  const path = (list) =>
    list.map(([x, y], at) => `${at ? 'L' : 'M'}${steps.at(x).toFixed(1)} ${values.at(y).toFixed(1)}`).join('');
  const rules = values.ticks.map((tick) => [
    svg('line', { class: 'rule', x1: LEFT, x2: WIDTH - RIGHT, y1: values.at(tick), y2: values.at(tick) }),
    svg('text', { class: 'tick', x: LEFT - 6, y: values.at(tick) + 3.5, 'text-anchor': 'end' }, short(tick)),
  ]);
  const feet = steps.ticks.map((tick) =>
    svg('text', { class: 'tick', x: steps.at(tick), y: HEIGHT - 8, 'text-anchor': 'middle' }, short(tick)),
  );
  const dots = validation.map(([step, value, best]) =>
    svg(
      'circle',
      { class: best ? 'dot best' : 'dot', cx: steps.at(step), cy: values.at(value), r: 2.5 },
      svg('title', {}, `step ${step}: validation loss ${value}${best ? ' (best)' : ''}`),
    ),
  );
  const drawing = svg(
    'svg',
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': told(instance, loss, validation) },
    rules.flat(),
    feet,
    svg('path', { class: 'loss', d: path(loss) }),
    svg('path', { class: 'validation', d: path(validation) }),
    dots,
  );
  return el('figure', { class: 'curve' }, drawing, el('figcaption', {}, instance));
}

/** A curve in words. */
function told(instance, loss, validation) {
  const parts = [instance];
  if (loss.length) parts.push(`loss from ${number(loss[0][1])} to ${number(loss.at(-1)[1])} at step ${loss.at(-1)[0]}`);
  if (validation.length)
    parts.push(`least validation loss ${number(Math.min(...validation.map(([, value]) => value)))}`);
  return parts.join('; ');
}

const extent = (values) =>
  values.length ? [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))] : [0, 1];

/** A linear scale with round ticks; `wide` moves its ends to ticks. */
function scale([low, high], [from, to], wide) {
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  if (wide) [low, high] = [Math.floor(low / step) * step, Math.ceil(high / step) * step];
  const ticks = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at += 1) ticks.push(at * step);
  return { ticks, at: (value) => from + ((value - low) / (high - low)) * (to - from) };
}

const short = (value) =>
  Math.abs(value) >= 10000 ? value.toExponential(0).replace('e+', 'e') : String(Number(value.toPrecision(6)));
