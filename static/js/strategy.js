// Shows the settings that the chosen strategy reads. Without this each says which strategies read it.
export function startStrategy(form) {
  const settings = [...form.querySelectorAll("[data-strategies]")];
  const none = form.querySelector("[data-strategy-none]");
  const show = () => {
    const chosen = form.elements.strategy.value;
    settings.forEach((setting) => {
      setting.hidden = !setting.dataset.strategies.split(" ").includes(chosen);
    });
    none.hidden = settings.some((setting) => !setting.hidden && !setting.closest("details"));
  };
  form.addEventListener("change", show);
  show();
}
