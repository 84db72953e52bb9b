// The report's only script: shows token, V and implicit advantage of the token under the pointer, or
// under a cursor moved by the arrow keys. Without it the page lacks nothing but these figures.
const tip = document.getElementById("tip");
let current = null;

function show(span) {
  if (current === span) return;
  current?.classList.remove("current");
  current = span;
  if (span === null) {
    tip.hidden = true;
    return;
  }
  const lines = ["token " + JSON.stringify(span.textContent), "V " + (span.dataset.v ?? "none")];
  if (span.dataset.a !== undefined) lines.push("implicit advantage " + span.dataset.a);
  tip.textContent = lines.join("\n");
  tip.hidden = false;
  const box = span.getClientRects()[0] ?? span.getBoundingClientRect();
  const left = Math.min(box.left, innerWidth - tip.offsetWidth - 8);
  const below = box.bottom + 8;
  tip.style.left = Math.max(8, left) + "px";
  tip.style.top =
    (below + tip.offsetHeight < innerHeight ? below : box.top - tip.offsetHeight - 8) +
    "px";
}

document.addEventListener("pointerover", (event) => show(event.target.closest(".tokens span")));
document.addEventListener("scroll", () => show(null), { passive: true });
document.addEventListener("keydown", (event) => {
  const tokens = event.target.closest?.(".tokens");
  if (!tokens) return;
  const spans = [...tokens.children];
  const at = spans.indexOf(current);
  const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: spans.length - 1 }[event.key];
  if (event.key === "Escape") show(null);
  if (next === undefined || !spans[next]) return;
  event.preventDefault();
  show(spans[next]);
  current.classList.add("current");
});
document.addEventListener("focusout", () => show(null));
