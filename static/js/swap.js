// Filters without losing place and focus: fetches the page that the form leads to and swaps the marked part of it.
// Without this the form and the links just load the page.
export function startSwap() {
  document.querySelectorAll("[data-submit-on-change]").forEach((form) => {
    form.addEventListener("change", () => form.requestSubmit());
  });
  document.addEventListener("change", (event) => {
    const form = event.target.form;
    if (!form?.matches("[data-autosubmit]")) return;
    show(`${form.getAttribute("action") || window.location.pathname}?${new URLSearchParams(new FormData(form))}`);
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-swap] a[href^='?']");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    show(link.getAttribute("href"));
  });
  window.addEventListener("popstate", () => window.location.reload());
}

async function show(address) {
  const place = document.querySelector("[data-swap]");
  const focused = document.activeElement?.id;
  place.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-swap]");
    keepOpen(place, fresh);
    place.replaceWith(fresh);
    history.pushState(null, "", address);
    if (address.includes("#")) open(address.split("#")[1]);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    document.dispatchEvent(new CustomEvent("swapped"));
  } catch {
    window.location.assign(address);
  }
}

// As a browser does for an address with a fragment; a folded target would show nothing.
function open(id) {
  const target = document.getElementById(id);
  if (target instanceof HTMLDetailsElement) target.open = true;
  target?.scrollIntoView();
}

function keepOpen(place, fresh) {
  const before = place.querySelectorAll("details");
  fresh.querySelectorAll("details").forEach((details, at) => {
    if (before[at]) details.open = before[at].open;
  });
}
