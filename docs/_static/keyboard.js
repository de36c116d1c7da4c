// What scrolls sideways can be scrolled from the keyboard, and captions of the navigation are headings of a level.
window.addEventListener("load", () => {
  for (const caption of document.querySelectorAll(".caption[role=heading]")) caption.setAttribute("aria-level", "2");
  const update = () => {
    for (const region of document.querySelectorAll("pre, .math, .katex-display, .table-wrapper")) {
      if (region.scrollWidth > region.clientWidth) region.tabIndex = 0;
      else region.removeAttribute("tabindex");
    }
  };
  update();
  window.addEventListener("resize", update);
});
