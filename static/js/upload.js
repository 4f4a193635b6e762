// Sends a form with its files by XHR, because fetch cannot report progress; several files go one after another.
// Without it the form just posts. `data-refusal` says what is wrong with a file of another kind than `accept` names; a
// chosen option that has its own `data-accept` and `data-refusal` decides instead.
const MIB = 1048576;

export function startUpload(form) {
  const input = form.querySelector("input[type=file]");
  const box = form.querySelector("[data-upload-progress]");
  const [bar, text, cancel] = ["progress", "p", "button"].map((name) => box.querySelector(name));
  const submit = form.querySelector("button:not([type=button])");

  const stop = (message) => {
    box.hidden = false;
    bar.hidden = true;
    cancel.hidden = true;
    box.dataset.failed = "";
    text.textContent = message;
    submit.disabled = false;
  };
  const refused = () => {
    const rules = form.querySelector("[data-accept]:has(:checked)")?.dataset ?? { accept: input.accept, ...form.dataset };
    const endings = (rules.accept || "").split(",").filter(Boolean);
    const bad = [...input.files].find((file) => endings.length && !endings.some((end) => file.name.toLowerCase().endsWith(end)));
    return bad && `“${bad.name}” is refused. ${rules.refusal}`;
  };
  const send = (file, title) =>
    new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      const body = new FormData(form);
      const started = performance.now();
      body.set(input.name, file);
      cancel.onclick = () => request.abort();
      request.upload.onprogress = (progress) => {
        if (!progress.lengthComputable) return;
        const rate = (1000 * progress.loaded) / (performance.now() - started) / MIB;
        bar.value = progress.loaded / progress.total;
        text.textContent = `${title}: ${Math.round(100 * bar.value)}% of ${(progress.total / MIB).toFixed(1)} MiB at ${rate.toFixed(1)} MiB/s`;
      };
      request.onabort = () => reject(new Error("Canceled. Nothing of this file was kept."));
      request.onerror = () => reject(new Error("The connection broke. Try again."));
      request.onload = () => {
        const answer = parse(request.responseText);
        if (request.status < 300 && answer.location) resolve(answer.location);
        else reject(new Error(sentence(answer, request.status)));
      };
      request.open("POST", form.action || window.location.href);
      request.setRequestHeader("Accept", "application/json");
      request.send(body);
    });

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const problem = refused();
    if (problem) return stop(problem);
    submit.disabled = true;
    delete box.dataset.failed;
    box.hidden = bar.hidden = cancel.hidden = false;
    try {
      let location;
      for (const [at, file] of [...input.files].entries()) {
        const place = input.files.length > 1 ? ` (${at + 1} of ${input.files.length})` : "";
        location = await send(file, `${file.name}${place}`);
      }
      window.location.assign(location);
    } catch (error) {
      stop(error.message);
    }
  });
}

// Files dropped on the zone count as chosen; an empty name is filled from the first one.
export function startDropzone(zone) {
  const input = zone.querySelector("input[type=file]");
  const over = (event) => {
    event.preventDefault();
    zone.dataset.over = "";
  };
  zone.addEventListener("dragover", over);
  zone.addEventListener("dragleave", () => delete zone.dataset.over);
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    delete zone.dataset.over;
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
  input.addEventListener("change", () => {
    const name = input.form.querySelector("[data-name-from-file]");
    if (name && !name.value && input.files[0]) name.value = input.files[0].name.replace(/\.[^.]*$/, "");
  });
}

function parse(body) {
  try {
    return JSON.parse(body);
  } catch {
    return {};
  }
}

function sentence(answer, status) {
  const errors = Object.values(answer.errors || {}).flat();
  return errors.join(" ") || answer.message || `The server answered ${status}. Try again.`;
}
