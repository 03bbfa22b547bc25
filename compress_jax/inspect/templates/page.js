"use strict";

// The order of rows by their values: numbers from the largest, texts from A; `back` turns that
// round. Rows without a value come last, equal ones stay as they were.
function order(values, back) {
  const known = values.map((value, row) => row).filter((row) => values[row] !== null);
  const text = known.some((row) => typeof values[row] === "string");
  const sign = text === back ? -1 : 1;
  const rising = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  known.sort((a, b) => sign * rising(values[a], values[b]) || a - b);
  return known.concat(values.map((value, row) => row).filter((row) => values[row] === null));
}

function fieldOf(heading) {
  return heading.dataset.field;
}

// Sorts a table by a field, and says so to screen readers.
function sortTable(table, field, back) {
  const headings = Array.from(table.tHead.rows[0].cells);
  const column = headings.findIndex((heading) => fieldOf(heading) === field);
  if (column < 0) return;
  const rows = Array.from(table.tBodies[0].rows);
  const values = rows.map((row) => JSON.parse(row.cells[column].dataset.value));
  order(values, back).forEach((row) => table.tBodies[0].append(rows[row]));
  const text = values.some((value) => typeof value === "string");
  headings.forEach((heading, other) => {
    const way = text === back ? "descending" : "ascending";
    heading.setAttribute("aria-sort", other === column ? way : "none");
    heading.dataset.back = other === column ? String(back) : "";
  });
}

// `page.html#sort=-sparsity` opens sorted, as `--sort=-sparsity` prints it.
function sortByAddress() {
  const wanted = /^#sort=(-?)(\w+)$/.exec(location.hash);
  if (!wanted) return;
  document.querySelectorAll("table.sortable").forEach(
    (table) => sortTable(table, wanted[2], wanted[1] === "-"));
}

function start() {
  document.querySelectorAll("table.sortable th[data-field] button").forEach((button) => {
    button.addEventListener("click", () => {
      const heading = button.parentElement;
      sortTable(heading.closest("table"), fieldOf(heading), heading.dataset.back === "false");
    });
  });
  addEventListener("hashchange", sortByAddress);
  sortByAddress();
}

if (typeof document !== "undefined") start();
