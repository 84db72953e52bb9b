// Keeps a page fresh. A run's page listens to the run's events and, at most every second, fetches
// itself again and swaps the parts marked data-live; other pages look for news every five seconds.
const MOST_OFTEN_MS = 1000;
const SELDOM_MS = 5000;

let waiting = false;
let again = false;

async function refresh() {
  try {
    const response = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!response.ok) return;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    document.title = fresh.title;
    for (const part of document.querySelectorAll("[data-live]")) swap(part, fresh);
  } catch {
    // The server is away; the next event or tick tries again.
  }
}

/** What each part was last given, before the reader opened or closed anything in it. */
const lastSeen = new Map();

function swap(part, fresh) {
  const next = fresh.getElementById(part.id);
  if (next === null) return;
  const html = next.innerHTML;
  if (html === lastSeen.get(part)) return;
  lastSeen.set(part, html);
  // What the reader has scrolled, opened or focused stays so.
  const atEnd = part.scrollTop + part.clientHeight >= part.scrollHeight - 4;
  const { scrollTop, scrollLeft } = part;
  for (const open of part.querySelectorAll("details[open]")) {
    next.querySelector(keySelector(open))?.setAttribute("open", "");
  }
  const active = document.activeElement;
  const focused = part.contains(active) && active !== part ? focusSelector(active) : null;
  part.replaceChildren(...next.childNodes);
  part.scrollTop = atEnd ? part.scrollHeight : scrollTop;
  part.scrollLeft = scrollLeft;
  if (focused !== null) part.querySelector(focused)?.focus({ preventScroll: true });
}

const keySelector = (details) => `details[data-key="${CSS.escape(details.dataset.key)}"]`;

/** Finds the same link or summary in the next version of its part. */
function focusSelector(element) {
  if (element.matches("summary")) return `${keySelector(element.parentElement)} > summary`;
  return element.matches("a") ? `a[href="${CSS.escape(element.getAttribute("href"))}"]` : null;
}

/** Refreshes now, or as soon as the last refresh is long enough ago. */
async function soon() {
  if (waiting) {
    again = true;
    return;
  }
  waiting = true;
  do {
    again = false;
    await refresh();
    await new Promise((resolve) => setTimeout(resolve, MOST_OFTEN_MS));
  } while (again);
  waiting = false;
}

const log = document.getElementById("log");
if (log !== null) log.scrollTop = log.scrollHeight;

const { events } = document.body.dataset;
if (events !== undefined) {
  const source = new EventSource(events);
  source.onmessage = soon;
  source.addEventListener("end", () => {
    source.close();
    soon();
  });
}
// A run that was killed sends no event, so its page looks from time to time as well.
setInterval(() => {
  if (document.visibilityState === "visible") soon();
}, SELDOM_MS);
