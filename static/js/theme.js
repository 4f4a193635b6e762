// Applies the stored theme before the page is painted; the system's choice where none is stored.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    root.dataset.bsTheme = localStorage.getItem("theme") || (system.matches ? "dark" : "light");
    // Charts are drawn on a canvas, which no style sheet reaches.
    document.dispatchEvent(new CustomEvent("themechange"));
  };
  root.classList.remove("no-js");
  apply();
  system.addEventListener("change", apply);
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-toggle]")) return;
    localStorage.setItem("theme", root.dataset.bsTheme === "dark" ? "light" : "dark");
    apply();
  });
})();
