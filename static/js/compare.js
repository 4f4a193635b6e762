// Keeps the ticks of the compare bar while the catalog is filtered and paged, four at most.
const MOST = 4;
const KEY = "compare";

export function startCompare(bar) {
  const words = bar.querySelector("p");
  let chosen = JSON.parse(sessionStorage.getItem(KEY) || "[]");

  const show = () => {
    sessionStorage.setItem(KEY, JSON.stringify(chosen));
    const boxes = [...document.querySelectorAll("[data-compare-tick]")];
    boxes.forEach((box) => {
      box.checked = chosen.includes(box.value);
      box.disabled = chosen.length >= MOST && !box.checked;
    });
    bar.querySelectorAll("input").forEach((input) => input.remove());
    const here = new Set(boxes.map((box) => box.value));
    chosen.filter((name) => !here.has(name)).forEach((name) => {
      const input = document.createElement("input");
      Object.assign(input, { type: "hidden", name: "model", value: name });
      bar.append(input);
    });
    words.textContent = `${chosen.length} of ${MOST} chosen: ${chosen.join(", ")}`;
    bar.hidden = chosen.length === 0;
  };
  document.addEventListener("change", (event) => {
    if (!event.target.matches("[data-compare-tick]")) return;
    chosen = chosen.filter((name) => name !== event.target.value);
    if (event.target.checked) chosen.push(event.target.value);
    show();
  });
  bar.querySelector("[data-compare-clear]").addEventListener("click", () => {
    chosen = [];
    show();
  });
  document.addEventListener("swapped", show);
  show();
}
