// The leaderboard: filters above, one row a (data set, split, protocol, system), headings that sort.

(function leaderboard() {
  const place = $("#board");
  if (!place) return;
  const data = content("board");
  const many = 150; // rows that are shown at first
  const count = name => data.rows.filter(row => row.dataset === name).length;
  const datasets = Object.keys(data.titles).sort((a, b) => count(b) - count(a));
  const state = {
    dataset: datasets[0],
    split: data.splits[0],
    protocol: "",
    view: 0,
    words: [],
    controls: true,
    sort: null,
    rising: null,
    all: false,
  };
  const protocols = unique(data.rows.map(row => row.protocol)).sort();
  const said = make("p", { class: "said", role: "status" });
  const table = make("table", { class: "grid" });
  const more = make("button", { type: "button", class: "more", onclick: () => { state.all = true; show(); } });

  const own = (row, column) => (row.values[column] || []).filter(value => value !== null);

  // The column that a view is sorted by unless another is asked for: what is of all directions, else the first.
  function standard(columns) {
    const whole = columns.filter(j => ["both", "average"].includes(data.columns[j].aspect));
    return whole[0] ?? columns[0];
  }

  function rowsNow() {
    return data.rows.filter(row =>
      (!state.dataset || row.dataset === state.dataset) &&
      (!state.split || row.split === state.split) &&
      (!state.protocol || row.protocol === state.protocol) &&
      (state.controls || !row.control) &&
      state.words.every(word => `${row.name} ${data.titles[row.dataset]} ${row.split} ${row.protocol}`.toLowerCase().includes(word)));
  }

  function links(row) {
    const cells = row.seeds.map(seed => {
      const key = `${row.dataset}/${row.split}/${row.name}/seed${seed}`;
      return make("li", {},
        make("a", { href: `${data.base}/${key}/` }, `seed ${seed}`),
        row.links[seed] ? [" · ", make("a", { href: row.links[seed] }, "MLflow")] : null);
    });
    return make("details", { class: "seeds" },
      make("summary", { "aria-label": `${row.name}: ${row.seeds.length} seeds, their runs` }, String(row.seeds.length)),
      make("ul", {}, cells));
  }

  function heading(text, key, options = {}) {
    const sorted = state.sort === key;
    const press = () => {
      state.rising = sorted ? !state.rising : options.rising || false;
      state.sort = key;
      show();
      $(`[data-key="${key}"]`, table).focus();
    };
    return make("th", { scope: "col", class: options.left ? "left" : "number", "aria-sort": sorted ? (state.rising ? "ascending" : "descending") : null },
      make("button", { type: "button", class: "sort", "data-key": key, onclick: press, title: options.title },
        options.over ? make("small", {}, options.over) : null, text));
  }

  function show() {
    let rows = rowsNow();
    const view = data.views[state.view];
    // A column that controls alone have tells nothing of systems, unless there are none.
    const systems = rows.some(row => !row.control) ? rows.filter(row => !row.control) : rows;
    const columns = view ? view.columns.filter(j => systems.some(row => row.values[j])) : [];
    const total = rows.length;
    rows = rows.filter(row => columns.some(j => row.values[j]));
    if (!["name", "dataset", "split", "protocol"].includes(state.sort) && !columns.includes(Number(state.sort ?? NaN))) {
      const first = standard(columns);
      state.sort = first === undefined ? "name" : String(first);
      state.rising = first === undefined || data.columns[first].lower;
    }
    const key = state.sort;
    const value = row => (key in row ? row[key] : mean(own(row, key)));
    rows = rows.map(row => [value(row), row]).sort((a, b) => compare(a[0], b[0], !state.rising));
    const shown = state.all ? rows : rows.slice(0, many);
    const extra = { dataset: !state.dataset, split: !state.split, protocol: protocols.length > 1 && !state.protocol };
    const best = Object.fromEntries(columns.map(j => {
      const means = rows.filter(([, row]) => !row.control).map(([, row]) => mean(own(row, j))).filter(x => x !== null);
      return [j, data.columns[j].lower ? Math.min(...means) : Math.max(...means)];
    }));
    const comparable = state.dataset && state.split;
    const several = new Set(columns.map(j => data.columns[j].aspect)).size > 1;
    const head = make("tr", {},
      make("th", { scope: "col", class: "number" }, make("span", { class: "visually-hidden" }, "Place")),
      heading("System", "name", { left: true, rising: true }),
      extra.dataset ? heading("Data set", "dataset", { left: true, rising: true }) : null,
      extra.split ? heading("Annotation", "split", { left: true, rising: true }) : null,
      extra.protocol ? heading("Tested on", "protocol", { left: true, rising: true }) : null,
      columns.map(j => {
        const { aspect, label, lower } = data.columns[j];
        const over = several && !["both"].includes(aspect) ? spoken(aspect).replace(" to ", "→") : null;
        return heading(label, String(j), { over, rising: lower, title: `${spoken(aspect)}, ${label}${lower ? " (lower is better)" : ""}` });
      }),
      make("th", { scope: "col", class: "left" }, "Seeds"));
    let rank = 0;
    const body = shown.map(([, row]) => {
      rank += !row.control;
      return make("tr", { class: row.control ? "control" : null },
        make("td", { class: "number place" }, row.control ? "" : String(rank)),
        make("th", { scope: "row" }, row.name, row.control ? make("small", {}, " control") : null),
        extra.dataset ? make("td", {}, data.titles[row.dataset]) : null,
        extra.split ? make("td", {}, row.split) : null,
        extra.protocol ? make("td", {}, protocolName(row.protocol)) : null,
        columns.map(j => {
          const values = own(row, j);
          const sd = deviation(values);
          const middle = mean(values);
          const first = comparable && data.columns[j].compared && !row.control && middle !== null && middle === best[j];
          return make("td", { class: `number${String(j) === key ? " sorted" : ""}${first ? " best" : ""}` },
            format(middle), sd === null ? null : make("span", { class: "sd" }, ` ± ${format(sd)}`));
        }),
        make("td", {}, links(row)));
    });
    table.replaceChildren(
      make("caption", { class: "visually-hidden" }, "Leaderboard"),
      make("thead", {}, head),
      make("tbody", {}, body.length ? body : make("tr", {}, make("td", { colspan: 20, class: "none" }, "No row answers these filters."))));
    more.hidden = shown.length === rows.length;
    more.textContent = `Show all ${rows.length} rows`;
    said.textContent = `${shown.length} of ${data.rows.length} rows` +
      (total > rows.length ? `; ${total - rows.length} more have no number in these columns` : "") +
      (comparable ? "" : "; rows of different data or annotation cannot be compared with each other");
  }

  const change = key => value => { state[key] = value; state.all = false; show(); };
  const examples = unique(data.rows.filter(row => !row.control).map(row => row.name)).slice(0, 2);
  const search = make("input", {
    type: "search", placeholder: [...examples, "…"].join(", "),
    oninput: () => change("words")(words(search.value)),
  });
  const controls = make("input", { type: "checkbox", checked: true, onchange: () => change("controls")(controls.checked) });
  place.append(
    make("div", { class: "filters" },
      choice("Data set", [["", "all"], ...datasets.map(name => [name, data.titles[name]])], state.dataset, change("dataset")),
      choice("Annotation", [["", "all"], ...data.splits.map(name => [name, name])], state.split, change("split")),
      protocols.length > 1 ? choice("Tested on", [["", "all"], ...protocols.map(name => [name, protocolName(name)])], "", change("protocol")) : null,
      choice("Columns", data.views.map((view, i) => [String(i), view.title]), "0", value => {
        state.sort = null;
        change("view")(Number(value));
      }),
      make("label", { class: "field" }, make("span", {}, "Search"), search),
      make("label", { class: "check" }, controls, " controls")),
    make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Leaderboard" }, table),
    make("div", { class: "below" }, said, more));
  show();
})();
