// Sorting and filtering of tables that stand in the page: a button in each heading, `aria-sort` on it, a line that
// says how many rows are shown. A third press brings the first order back.

// The heading cells of each column: the lowest ones, of a head whose cells may span rows and columns.
function headings(head) {
  const grid = [...head.rows].map(() => []);
  [...head.rows].forEach((row, y) => {
    let x = 0;
    for (const cell of row.cells) {
      while (grid[y][x]) x += 1;
      for (let dy = 0; dy < cell.rowSpan; dy += 1) {
        for (let dx = 0; dx < cell.colSpan; dx += 1) if (grid[y + dy]) grid[y + dy][x + dx] = cell;
      }
      x += cell.colSpan;
    }
  });
  return grid[grid.length - 1] || [];
}

// Rows that belong together: a published row and ours below it.
function units(table) {
  const found = [];
  for (const body of table.tBodies) {
    for (const row of body.rows) {
      if (row.classList.contains("group")) continue;
      const follows = found.length && found[found.length - 1].rows[0].cells[0].rowSpan > found[found.length - 1].rows.length;
      if (follows) found[found.length - 1].rows.push(row);
      else found.push({ rows: [row], body });
    }
  }
  return found;
}

function cellsOf(unit, column) {
  return unit.rows.map(row => $(`[data-c="${column}"]`, row)).filter(Boolean);
}

// What a unit is sorted by: our number where any row has one in this column, else the published one.
function valueOf(unit, column, last) {
  const cells = cellsOf(unit, column);
  const cell = last ? cells[cells.length - 1] : cells[0];
  if (!cell) return null;
  const raw = cell.dataset.v ?? cell.textContent.trim();
  if (raw === "" || raw === DASH) return null;
  return Number.isNaN(Number(raw)) ? raw.toLowerCase() : Number(raw);
}

function compare(a, b, falling) {
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === typeof b ? (a < b ? -1 : Number(a > b)) : typeof a === "number" ? -1 : 1;
  return falling ? -order : order;
}

function sortable(table) {
  const all = units(table);
  const places = all.map(unit => ({ unit, body: unit.body, next: unit.rows[unit.rows.length - 1].nextSibling }));
  const groups = $$("tr.group", table);
  const sorted = make("tbody");
  let now = { column: null, turn: 0 };
  const show = (column, head) => {
    now = { column, turn: now.column === column ? (now.turn + 1) % 3 : 1 };
    const text = head.dataset.text === "true";
    for (const cell of $$("th[aria-sort]", table.tHead)) cell.removeAttribute("aria-sort");
    if (now.turn === 0) {
      for (const { unit, body, next } of [...places].reverse()) {
        for (const row of unit.rows) body.insertBefore(row, next && next.parentNode === body ? next : null);
      }
      sorted.remove();
    } else {
      const falling = (now.turn === 1) !== text;
      const ours = all.some(unit => unit.rows.some(row => row.classList.contains("ours")) && valueOf(unit, column, true) !== null);
      const skipped = unit => ours && !unit.rows.some(row => row.classList.contains("ours"));
      const keyed = all.map((unit, place) => ({ unit, place, value: skipped(unit) ? null : valueOf(unit, column, ours) }));
      keyed.sort((a, b) => compare(a.value, b.value, falling) || a.place - b.place);
      table.append(sorted);
      for (const { unit } of keyed) sorted.append(...unit.rows);
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    }
    for (const row of groups) row.hidden = now.turn !== 0;
  };
  for (const head of new Set(headings(table.tHead))) {
    if (head.dataset.c === undefined) continue;
    const button = make("button", { type: "button", class: "sort", onclick: () => show(head.dataset.c, head) });
    button.append(...head.childNodes);
    head.append(button);
  }
}

function filterable(input) {
  const table = document.getElementById(input.dataset.filters);
  const said = document.getElementById(input.getAttribute("aria-describedby"));
  const rows = $$("tbody tr", table).map(row => [row, row.textContent.toLowerCase()]);
  const show = () => {
    const wanted = words(input.value);
    let count = 0;
    for (const [row, text] of rows) {
      row.hidden = !wanted.every(word => text.includes(word));
      count += !row.hidden;
    }
    said.textContent = wanted.length ? `${count} of ${rows.length} rows` : `${rows.length} rows`;
  };
  input.addEventListener("input", show);
  show();
}

for (const table of $$("table[data-sortable], figure.table table")) whenNear(table.closest("figure") || table, () => sortable(table));
for (const input of $$("input[data-filters]")) filterable(input);
