// Replaces an element by the server's newest version of it until the answer asks for no more.
export function startPoll(element) {
  let pause = 1000 * Number(element.dataset.pollSeconds || 2);
  const again = async () => {
    if (document.hidden) return void setTimeout(again, pause);
    try {
      const answer = await fetch(element.dataset.pollUrl, { headers: { "HX-Request": "true" } });
      if (answer.headers.get("HX-Refresh")) return window.location.reload();
      const fresh = document.createRange().createContextualFragment(await answer.text()).firstElementChild;
      if (!fresh.dataset.pollUrl) return window.location.reload();
      element.replaceWith(fresh);
      element = fresh;
    } catch {
      pause = Math.min(15000, 2 * pause);
    }
    setTimeout(again, pause);
  };
  setTimeout(again, pause);
}
