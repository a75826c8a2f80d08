"use strict";
// Without this script, pictures to compare stand side by side and nothing else is missing.
const comparisons = document.querySelectorAll(".compare");
for (const comparison of comparisons) {
  const slider = comparison.querySelector("input");
  const [under, over] = comparison.querySelectorAll("figcaption");
  const show = () => {
    comparison.style.setProperty("--at", `${slider.value}%`);
    slider.setAttribute("aria-valuetext", `${slider.value} % ${under.textContent}, the rest ${over.textContent}`);
  };
  slider.addEventListener("input", show);
  show();
}
const lay = (laid) => comparisons.forEach((comparison) => comparison.classList.toggle("laid", laid));
const folded = document.querySelectorAll("details");
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...folded].filter((each) => !each.open);
  closed.forEach((each) => (each.open = true));
  lay(false);
});
addEventListener("afterprint", () => {
  closed.forEach((each) => (each.open = false));
  lay(true);
});
lay(true);
