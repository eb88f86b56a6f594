// Serves what the policy forbids as inline handlers, and mends what the library leaves to the mouse.
(() => {
  document.addEventListener("click", (event) => {
    const apply = event.target.closest("[data-sb-onclick]");
    if (apply && apply.dataset.sbOnclick === "applyColumnVisibility()") window.applyColumnVisibility();
    if (event.target.closest("[data-sb-theme]")) {
      const root = document.documentElement;
      const theme = root.dataset.bsTheme === "dark" ? "light" : "dark";
      root.dataset.bsTheme = theme;
      document.cookie = `theme=${theme}; path=/; max-age=31536000; samesite=lax`;
    }
    const shown = event.target.closest("[data-sb-show-password]");
    if (shown) document.getElementById(shown.dataset.sbShowPassword).type = shown.checked ? "text" : "password";
    const secret = event.target.closest("[data-sb-select]");
    if (secret) secret.select();
  });

  document.addEventListener("change", (event) => {
    const select = event.target.closest("[data-sb-onchange]");
    if (select) window.location = select.value;
  });

  // The dialog would close before the server has seen the form, and what was typed would be lost. On window, since the
  // library's own listener is on document and came first.
  window.addEventListener(
    "click",
    (event) => {
      const submit = event.target instanceof Element && event.target.closest('[data-sa-action="action-submit"]');
      const form = submit && document.querySelector('[data-sa-hook="modal-form"] form');
      if (form && !form.reportValidity()) {
        event.preventDefault();
        event.stopImmediatePropagation();
      }
    },
    true,
  );
  document.addEventListener("submit", (event) => {
    if (event.target.closest('[data-sa-hook="modal-form"]')) {
      event.preventDefault();
      document.querySelector('[data-sa-action="action-submit"]').click();
    }
  });

  // On a phone each row is a card, and each cell says what it is.
  for (const table of document.querySelectorAll("table.table-mobile-md")) {
    const heads = [...table.querySelectorAll("thead th")].map((head) => {
      // The words alone: of several sorted columns each shows its number too.
      const words = [...(head.querySelector("a") || head).childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
      return words.map((node) => node.textContent).join(" ").trim();
    });
    for (const row of table.querySelectorAll("tbody tr")) {
      [...row.children].forEach((cell, at) => {
        if (heads[at]) cell.dataset.label = heads[at];
      });
    }
  }

  // Of more rows than were counted nobody can say how many "all" are, and no action takes as many.
  if (document.querySelector("[data-sb-uncounted]")) document.getElementById("select-all-banner")?.remove();

  document.querySelector("[data-sb-focus]")?.focus();

  // A page of figures is asked for again while somebody looks at it; what has the focus stays as it is. The part may
  // say when to ask next, and what to tell those who listen to the page.
  const renewed = document.querySelector("[data-sb-renewed]");
  const lost = document.querySelector("[data-sb-lost]");
  const voice = document.querySelector("[data-sb-voice]");
  const asked = (name) => renewed.querySelector(`[data-sb-${name}]`)?.getAttribute(`data-sb-${name}`);
  const renew = async () => {
    if (document.hidden || renewed.contains(document.activeElement)) return;
    let fresh = false;
    try {
      const answer = await fetch(`${window.location.pathname}?part=1`, { redirect: "manual" });
      if (answer.ok) {
        const part = new DOMParser().parseFromString(await answer.text(), "text/html");
        renewed.replaceChildren(...part.body.childNodes);
        fresh = true;
      }
    } catch {
      // No connection: what is shown stays, and the next round asks again.
    }
    renewed.classList.toggle("sb-stale", !fresh);
    if (lost) lost.hidden = fresh;
    const spoken = asked("spoken") || "";
    if (voice && voice.textContent !== spoken) voice.textContent = spoken;
  };
  const renewAgain = () => {
    setTimeout(async () => {
      await renew();
      renewAgain();
    }, Number(asked("again") || renewed.dataset.sbRenewed));
  };
  if (renewed) renewAgain();

  // How many are meant is said where it is confirmed. The library writes its text when the dialog opens, so after it.
  document.querySelector('[data-sa-hook="modal-action"]')?.addEventListener("shown.bs.modal", (event) => {
    const place = document.querySelector('[data-sa-hook="action-confirmation"]');
    const counter = document.querySelector('[data-sa-hook="actions-selected-counter"]');
    const ofMany = event.relatedTarget?.closest('[data-sa-hook="actions-dropdown"], .dropdown-menu');
    if (place && counter && ofMany && !place.textContent.endsWith(")")) place.textContent += ` (${counter.textContent.trim()})`;
  });
})();
