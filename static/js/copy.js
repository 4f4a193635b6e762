// Copies a text and says so in the button for a moment.
const SHOWN = 1500;

export function startCopy(button) {
  const words = button.querySelector(".visually-hidden");
  const before = words.textContent;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.dataset.copy);
    words.textContent = "Copied";
    button.dataset.copied = "";
    setTimeout(() => {
      words.textContent = before;
      delete button.dataset.copied;
    }, SHOWN);
  });
}
