// Every direction between several modalities as a small table per system, shaded by value: rows ask, columns answer.

(function heat() {
  const place = $("#heat");
  if (!place) return;

  whenNear(place, () => {
    const data = content("board");
    const single = j => data.columns[j].aspect.includes("-to-");
    const columns = data.columns.map((_, j) => j).filter(single);
    const several = data.rows.filter(row => columns.filter(j => row.values[j]).map(j => data.columns[j].aspect)
      .reduce((seen, aspect) => seen.add(aspect), new Set()).size > 2);
    const datasets = unique(several.map(row => row.dataset));
    const state = { dataset: datasets[0], split: "", metric: "", protocol: "" };
    const filters = make("div", { class: "filters" });
    const maps = make("div", { class: "maps" });

    function show() {
      let rows = several.filter(row => row.dataset === state.dataset);
      const splits = unique(rows.map(row => row.split));
      if (!splits.includes(state.split)) state.split = splits.includes("full") ? "full" : splits[0];
      rows = rows.filter(row => row.split === state.split);
      const protocols = unique(rows.map(row => row.protocol));
      if (!protocols.includes(state.protocol)) state.protocol = protocols.includes("all") ? "all" : protocols[0];
      rows = rows.filter(row => row.protocol === state.protocol);
      const metrics = unique(columns.filter(j => !data.columns[j].lower && rows.some(row => row.values[j])).map(j => data.columns[j].metric));
      if (!metrics.includes(state.metric)) state.metric = metrics.find(name => name.startsWith("map@")) || metrics[0];
      const change = key => value => { state[key] = value; show(); };
      filters.replaceChildren(
        choice("Data set", datasets.map(name => [name, data.titles[name]]), state.dataset, change("dataset")),
        choice("Annotation", splits.map(name => [name, name]), state.split, change("split")),
        ...(protocols.length > 1 ? [choice("Tested on", protocols.map(name => [name, protocolName(name)]), state.protocol, change("protocol"))] : []),
        choice("Metric", metrics.map(name => [name, data.columns.find(column => column.metric === name).label]), state.metric, change("metric")));
      const wanted = columns.filter(j => data.columns[j].metric === state.metric);
      const made = rows.map(row => {
        const cells = Object.fromEntries(wanted.filter(j => row.values[j]).map(j => [data.columns[j].aspect, mean(row.values[j].filter(x => x !== null))]));
        return { row, cells, average: mean(Object.values(cells)) };
      }).filter(entry => entry.average !== null).sort((a, b) => a.row.control - b.row.control || b.average - a.average);
      const values = made.flatMap(entry => Object.values(entry.cells));
      const low = Math.min(...values), high = Math.max(...values);
      maps.replaceChildren(...made.map(entry => map(entry, low, high)));
    }

    function map({ row, cells, average }, low, high) {
      const order = ["image", "text", "audio", "video", "mesh"];
      const modalities = unique(Object.keys(cells).flatMap(aspect => aspect.split("-to-"))).sort((a, b) => order.indexOf(a) - order.indexOf(b));
      const cell = value => {
        if (value === undefined) return make("td", { class: "empty" }, "");
        const share = high > low ? (value - low) / (high - low) : 1;
        return make("td", { class: share > 0.55 ? "strong" : null, style: `--share: ${Math.round(100 * share)}%` }, format(value));
      };
      return make("figure", { class: "map" },
        make("figcaption", {}, make("b", {}, row.name), row.control ? " control" : "", ` average ${format(average)}`),
        make("table", {},
          make("thead", {}, make("tr", {}, make("th", { scope: "col" }, make("span", { class: "visually-hidden" }, "Query")), modalities.map(name => make("th", { scope: "col" }, name)))),
          make("tbody", {}, modalities.map(query => make("tr", {},
            make("th", { scope: "row" }, query),
            modalities.map(answer => cell(cells[`${query}-to-${answer}`])))))));
    }

    place.append(filters, maps);
    show();
  });
})();
