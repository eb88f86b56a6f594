// Suggestions while typing (a combobox by the ARIA Authoring Practices), the switch of colours, and copying a code.
// Every page works without this file.
const WAIT_MS = 150;
const LEAST = 2;

function element(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function suggestFor(form) {
  const input = form.querySelector("input[type=search]");
  const list = element("div", { class: "list", role: "listbox", id: `${input.id}-list`, "aria-label": form.querySelector("label").textContent });
  const status = element("div", { class: "unseen", role: "status" });
  list.hidden = true;
  form.append(list, status);
  for (const [key, value] of Object.entries({ role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": list.id })) {
    input.setAttribute(key, value);
  }
  let timer = 0;
  let request = null;
  let options = [];
  let at = -1;

  function close() {
    clearTimeout(timer);
    request?.abort();
    list.hidden = true;
    options = [];
    at = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function move(to) {
    if (!options.length) return;
    if (at >= 0) options[at].node.setAttribute("aria-selected", "false");
    at = (to + options.length) % options.length;
    options[at].node.setAttribute("aria-selected", "true");
    options[at].node.scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", options[at].node.id);
  }

  function take(option) {
    close();
    if (option.code) {
      window.location.assign(`/partida/${option.code}?q=${encodeURIComponent(input.value.trim())}`);
      return;
    }
    input.value = option.text;
    form.requestSubmit();
  }

  function show(suggestions) {
    close();
    const groups = [["word", form.dataset.words], ["line", form.dataset.lines]].map(([kind, title]) => [suggestions.filter((one) => one.kind === kind), title]);
    list.replaceChildren();
    for (const [found, title] of groups) {
      if (!found.length) continue;
      const label = element("div", { class: "title", id: `${list.id}-${list.childElementCount}` }, title);
      const group = element("div", { role: "group", "aria-labelledby": label.id }, label);
      for (const one of found) {
        const node = element("div", { role: "option", id: `${list.id}-option-${options.length}`, "aria-selected": "false", lang: one.language });
        if (one.code) node.append(element("span", { class: "code" }, one.display_code), " ");
        // Legal wordings run over many lines; the list shows two of them, its reader the whole.
        node.append(element("span", { class: "text" }, one.text));
        // Not click: the box would lose the focus first and close the list.
        node.addEventListener("pointerdown", (event) => {
          event.preventDefault();
          take(one);
        });
        options.push({ ...one, node });
        group.append(node);
      }
      list.append(group);
    }
    list.hidden = options.length === 0;
    input.setAttribute("aria-expanded", String(options.length > 0));
    status.textContent = options.length ? form.dataset.count.replace("{count}", options.length) : form.dataset.none;
  }

  async function ask() {
    const words = input.value.trim();
    request?.abort();
    if (words.length < LEAST) {
      close();
      return;
    }
    request = new AbortController();
    try {
      const query = new URLSearchParams({ q: words, lang: form.dataset.lang, limit: "8" });
      const response = await fetch(`${form.dataset.suggest}?${query}`, { signal: request.signal });
      if (response.ok && document.activeElement === input) show((await response.json()).suggestions);
    } catch {
      // Aborted by the next letter, or offline: the box goes on working without suggestions.
      close();
    }
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, WAIT_MS);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !list.hidden) {
      event.preventDefault();
      close();
    } else if (event.key === "ArrowDown" && !list.hidden) {
      event.preventDefault();
      move(at + 1);
    } else if (event.key === "ArrowUp" && !list.hidden) {
      event.preventDefault();
      move(at < 0 ? options.length - 1 : at - 1);
    } else if (event.key === "Enter" && at >= 0) {
      event.preventDefault();
      take(options[at]);
    }
  });
  input.addEventListener("blur", close);
  form.addEventListener("submit", close);
}

for (const form of document.querySelectorAll("form[data-suggest]")) suggestFor(form);

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  event.preventDefault();
  document.querySelector("input[type=search]")?.focus();
});

for (const button of document.querySelectorAll("[data-theme-switch]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    document.cookie = `theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`;
  });
}

for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.querySelector(button.dataset.copy).textContent.trim());
    button.textContent = button.dataset.done;
  });
}
