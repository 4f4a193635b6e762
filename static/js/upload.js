// Sends the files of a form one after another in pieces, by tus to `data-upload`, and then the form with the id of the
// upload in the place of the file; none of more than `data-max-bytes`. A file that was chosen again, after a broken line or a new start of the browser, goes
// on where it stopped. Without this script the form just posts. `data-refusal` says what is wrong with a file of another kind than `accept` names; a
// chosen option that has its own `data-accept` and `data-refusal` decides instead.
const MIB = 1048576;
const PIECE_BYTES = 8 * MIB;
const RETRIES_MS = [0, 1000, 3000, 5000, 10000, 20000];
const BROKE = "The connection broke. Try again: what arrived is kept for a day.";
const FATAL = [400, 401, 403, 404, 410, 413, 422, 507];

export function startUpload(form) {
  const input = form.querySelector("input[type=file]");
  const box = form.querySelector("[data-upload-progress]");
  const [bar, text, cancel] = ["progress", "p", "button"].map((name) => box.querySelector(name));
  const submit = form.querySelector("button:not([type=button])");
  const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
  const arrived = new WeakMap(); // a form that is refused does not send its file again

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
    if (bad) return `“${bad.name}” is refused. ${rules.refusal}`;
    const large = [...input.files].find((file) => file.size > Number(form.dataset.maxBytes));
    return large && `“${large.name}” is too large: ${(large.size / MIB).toFixed(0)} MiB. At most ${(form.dataset.maxBytes / MIB).toFixed(0)} MiB are taken.`;
  };
  const send = (file, title) =>
    new Promise((resolve, reject) => {
      if (arrived.has(file)) return resolve(arrived.get(file));
      let started, begun;
      const upload = new tus.Upload(file, {
        endpoint: form.dataset.upload,
        chunkSize: PIECE_BYTES,
        retryDelays: RETRIES_MS,
        metadata: { filename: file.name },
        headers: { "X-CSRFToken": token },
        removeFingerprintOnSuccess: true,
        onShouldRetry: (error) => !FATAL.includes(error.originalResponse?.getStatus()),
        onProgress: (sent, total) => {
          started ??= performance.now();
          begun ??= sent;
          const rate = (1000 * (sent - begun)) / Math.max(1, performance.now() - started) / MIB;
          bar.value = sent / total;
          text.textContent =
            sent < total
              ? `${title}: ${Math.round(100 * bar.value)}% of ${(total / MIB).toFixed(1)} MiB at ${rate.toFixed(1)} MiB/s`
              : `${title}: checking what arrived…`;
        },
        onError: (error) => {
          const answer = error.originalResponse;
          reject(new Error(answer ? sentence(parse(answer.getBody()), answer.getStatus()) : BROKE));
        },
        onSuccess: () => {
          const id = upload.url.split("/").filter(Boolean).pop();
          arrived.set(file, id);
          resolve(id);
        },
      });
      cancel.onclick = () => {
        upload.abort();
        reject(new Error("Stopped. Choose the same file again within a day to go on from there."));
      };
      upload.findPreviousUploads().then((before) => {
        if (before.length) upload.resumeFromPreviousUpload(before[0]);
        upload.start();
      });
    });
  const post = async (id) => {
    const body = new FormData(form);
    body.delete(input.name);
    body.set("upload", id);
    let response;
    try {
      response = await fetch(form.action || window.location.href, {
        method: "POST",
        headers: { Accept: "application/json" },
        body,
      });
    } catch {
      throw new Error(BROKE);
    }
    const answer = parse(await response.text());
    if (!response.ok || !answer.location) throw new Error(sentence(answer, response.status));
    return answer.location;
  };

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
        location = await post(await send(file, `${file.name}${place}`));
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
  return errors.map((error) => error.detail ?? error).join(" ") || answer.message || answer.detail || `The server answered ${status}. Try again.`;
}
