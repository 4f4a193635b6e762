// Shows the settings that the chosen strategy reads, each untouched one at that strategy's default: the rule of
// RunForm, which applies it to what is sent where this does not run.
export function startStrategy(form) {
  const settings = [...form.querySelectorAll("[data-strategies]")].map((box) => ({
    box,
    strategies: box.dataset.strategies.split(" "),
    defaults: JSON.parse(box.dataset.defaults),
    control: box.querySelector("input, select"),
  }));
  const none = form.querySelector("[data-strategy-none]");
  const filledFor = form.elements.filled_for;
  const show = () => {
    const chosen = form.elements.strategy.value;
    settings.forEach((setting) => {
      if (isAt(setting.control, defaultOf(setting, filledFor.value))) fill(setting.control, defaultOf(setting, chosen));
      setting.box.hidden = !setting.strategies.includes(chosen);
    });
    filledFor.value = chosen;
    none.hidden = settings.some(({ box }) => !box.hidden && !box.closest("details"));
  };
  form.addEventListener("change", show);
  form.addEventListener("click", (event) => {
    const link = event.target.closest("[data-preset-link]");
    if (!link || !form.elements.dataset) return;
    const address = new URL(link.href);
    address.searchParams.set("dataset", form.elements.dataset.value);
    link.href = address.href;
  });
  show();
}

// Of what a strategy does not read, the default of the first one that does.
const defaultOf = ({ defaults, strategies }, strategy) => defaults[strategy] ?? defaults[strategies[0]];

function isAt(control, value) {
  if (control.type === "checkbox") return control.checked === value;
  return typeof value === "number" ? control.value !== "" && Number(control.value) === value : control.value === value;
}

function fill(control, value) {
  if (control.type === "checkbox") control.checked = value;
  else control.value = value;
}
