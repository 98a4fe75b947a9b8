// The page as a whole; and, while titer serves it, as the run goes on.

const SECOND = 1000;

function draw() {
  for (const part of [warnings, results, figures, curves, systems, stages, asked, headOfPage]) part();
}

async function follow() {
  const mark = find('live');
  mark.hidden = false;
  let state = page.state;
  for (;;) {
    await new Promise((resolve) => {
      setTimeout(resolve, SECOND);
    });
    try {
      const next = await (await fetched(`/page.json?since=${encodeURIComponent(state)}`)).json();
      if (next.state !== state) {
        [page, state] = [next, next.state];
        keepingFocus(draw);
      }
      mark.textContent =
        page.run?.state === 'running' ? 'The run goes on; this page follows.' : 'This page follows the next run.';
      mark.classList.remove('lost');
    } catch {
      mark.textContent = 'titer does not answer any more: the page shows what was last known.';
      mark.classList.add('lost');
    }
  }
}

/** Draws again without taking away where the reader stands: the place on the page, what is open, the focus. */
function keepingFocus(work) {
  const opened = new Set([...document.querySelectorAll('details[open] > summary')].map((one) => one.textContent));
  const place = window.scrollY;
  const { activeElement } = document;
  const label = activeElement?.getAttribute('aria-label');
  const cell = activeElement?.closest?.('td');
  const grid = cell?.closest('table').getAttribute('aria-label');
  work();
  for (const one of document.querySelectorAll('details > summary')) {
    if (opened.has(one.textContent)) one.parentElement.open = true;
  }
  window.scrollTo(0, place);
  const same = (name) =>
    [...document.querySelectorAll('[aria-label]')].find((one) => one.getAttribute('aria-label') === name);
  if (cell)
    [...document.querySelectorAll('table')]
      .find((one) => one.getAttribute('aria-label') === grid)
      ?.tBodies[0].rows[cell.parentElement.sectionRowIndex]?.cells[cell.cellIndex]?.focus();
  else if (label) same(label)?.focus();
}

draw();
window.addEventListener('hashchange', openFragment);
openFragment();
if (served) follow();
