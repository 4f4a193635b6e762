// The launch form's button "Estimate": shows the answer beside the form, which keeps what was typed, and asks until it
// is there. Without this the button loads the page with the answer in it.
export function startEstimate(form) {
  let pause;
  let asked = 0;
  const place = () => form.querySelector("[data-estimate]");

  const show = async (number, address, options) => {
    try {
      const answer = await fetch(address, { ...options, headers: { "HX-Request": "true" } });
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = document.createRange().createContextualFragment(await answer.text()).firstElementChild;
      if (number !== asked) return;
      if (!fresh?.matches("[data-estimate]")) return window.location.reload(); // signed out meanwhile
      place().replaceWith(fresh);
      pause = 2000;
    } catch {
      pause = Math.min(15000, 2 * pause);
    }
    const next = place().dataset.estimateUrl;
    if (next && number === asked) setTimeout(() => number === asked && show(number, next), pause);
  };

  form.addEventListener("submit", (event) => {
    if (event.submitter?.name !== "estimate") return;
    event.preventDefault();
    const body = new FormData(form);
    body.set("estimate", "1");
    pause = 2000;
    show(++asked, window.location.href, { method: "POST", body });
  });
}
