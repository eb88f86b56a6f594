// Runs before the first paint: with no choice made, the page follows the system.
(() => {
  const root = document.documentElement;
  if (root.dataset.themeChoice === "system" && matchMedia("(prefers-color-scheme: dark)").matches) {
    root.dataset.bsTheme = "dark";
  }
})();
