// Learning curves: one line per run, a thick one for the mean over seeds. The slider reads values off, by key or pointer.

(function charts() {
  const place = $("#chart");
  if (!place) return;

  whenNear(place, () => {
    const data = content("curves");
    const series = 8; // colours of the page
    const dashes = ["", "7 4", "2 3", "9 3 2 3"];
    const datasets = unique(data.runs.map(run => run.dataset));
    const state = { dataset: datasets[0], split: "", measure: "", hidden: new Set(), epoch: null };
    const svg = make("svg:svg", { class: "chart", "aria-hidden": "true" });
    const slider = make("input", { type: "range", min: 1, step: 1, "aria-label": "Epoch", oninput: () => { state.epoch = Number(slider.value); draw(); } });
    const said = make("output", { class: "readout", "aria-live": "polite" });
    const legend = make("div", { class: "legend", role: "group", "aria-label": "Systems shown" });
    const filters = make("div", { class: "filters" });

    const runsHere = () => data.runs.filter(run => run.dataset === state.dataset && run.split === state.split && run.values[state.measure]);

    function choose() {
      const here = data.runs.filter(run => run.dataset === state.dataset);
      const splits = unique(here.map(run => run.split));
      if (!splits.includes(state.split)) state.split = splits.includes("full") ? "full" : splits[0];
      const known = data.measures.filter(measure => here.some(run => run.split === state.split && run.values[measure.name]));
      if (!known.some(measure => measure.name === state.measure)) state.measure = known.length ? known[0].name : "";
      const change = key => value => { state[key] = value; state.epoch = null; choose(); };
      filters.replaceChildren(
        choice("Data set", datasets.map(name => [name, data.titles[name] || name]), state.dataset, change("dataset")),
        choice("Annotation", splits.map(name => [name, name]), state.split, change("split")),
        choice("Measure", known.map(measure => [measure.name, measure.label]), state.measure, change("measure")));
      draw();
    }

    // Means over the seeds that have an epoch.
    function means(runs) {
      const sums = new Map();
      for (const run of runs) {
        run.epochs.forEach((epoch, i) => {
          const value = run.values[state.measure][i];
          if (value !== null) sums.set(epoch, [...(sums.get(epoch) || []), value]);
        });
      }
      return [...sums].sort((a, b) => a[0] - b[0]).map(([epoch, values]) => [epoch, mean(values)]);
    }

    function steps(low, high, count) {
      const rough = (high - low || 1) / count;
      const power = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 5, 10].map(x => x * power).find(x => x >= rough);
      const found = [];
      for (let x = Math.ceil(low / step) * step; x <= high + step / 1e6; x += step) found.push(Number(x.toPrecision(10)));
      return found;
    }

    function draw() {
      const runs = runsHere();
      const names = unique(runs.map(run => run.name)).sort();
      const looks = Object.fromEntries(names.map((name, i) => [name, { colour: `var(--series-${i % series})`, dash: dashes[Math.floor(i / series) % dashes.length] }]));
      const lines = names.filter(name => !state.hidden.has(name)).map(name => {
        const members = runs.filter(run => run.name === name);
        return { name, members, points: means(members), ...looks[name] };
      });
      const points = lines.flatMap(line => line.members.flatMap(run => run.values[state.measure])).filter(x => x !== null);
      const epochs = lines.flatMap(line => line.points.map(([epoch]) => epoch));
      const width = Math.max(300, place.clientWidth - 2), height = width < 560 ? 260 : 340;
      const box = { left: 52, right: 12, top: 12, bottom: 34 };
      let [low, high] = points.length ? [Math.min(...points), Math.max(...points)] : [0, 1];
      if (low > 0 && low < high / 2) low = 0;
      if (low === high) high = low + 1;
      const last = Math.max(2, ...epochs), first = Math.min(last - 1, ...epochs);
      const x = epoch => box.left + ((epoch - first) / (last - first)) * (width - box.left - box.right);
      const y = value => height - box.bottom - ((value - low) / (high - low)) * (height - box.top - box.bottom);
      const path = list => list.filter(([, value]) => value !== null).map(([epoch, value], i) => `${i ? "L" : "M"}${x(epoch).toFixed(1)} ${y(value).toFixed(1)}`).join("");
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      svg.setAttribute("width", width);
      svg.setAttribute("height", height);
      svg.replaceChildren(
        ...steps(low, high, 5).map(value => make("svg:g", {},
          make("svg:line", { class: "rule", x1: box.left, x2: width - box.right, y1: y(value), y2: y(value) }),
          make("svg:text", { x: box.left - 8, y: y(value) + 4, "text-anchor": "end" }, String(value)))),
        ...steps(first, last, width < 560 ? 5 : 10).filter(Number.isInteger).map(epoch =>
          make("svg:text", { x: x(epoch), y: height - 14, "text-anchor": "middle" }, String(epoch))),
        make("svg:text", { x: width - box.right, y: height, "text-anchor": "end", class: "axis" }, "Epoch"),
        ...lines.flatMap(line => [
          ...(line.members.length > 1 ? line.members.map(run =>
            make("svg:path", { class: "thin", d: path(run.epochs.map((epoch, i) => [epoch, run.values[state.measure][i]])), stroke: line.colour, "stroke-dasharray": line.dash })) : []),
          make("svg:path", { class: "thick", d: path(line.points), stroke: line.colour, "stroke-dasharray": line.dash }),
        ]));
      slider.min = first;
      slider.max = last;
      const at = Math.min(last, Math.max(first, state.epoch ?? last));
      slider.value = at;
      const read = lines.map(line => [line, line.points.reduce((found, point) => (point[0] <= at ? point : found), null)])
        .filter(([, point]) => point).sort((a, b) => b[1][1] - a[1][1]);
      svg.append(
        make("svg:line", { class: "guide", x1: x(at), x2: x(at), y1: box.top, y2: height - box.bottom }),
        ...read.map(([line, point]) => make("svg:circle", { cx: x(point[0]), cy: y(point[1]), r: 3.5, fill: line.colour })));
      svg.onpointermove = event => {
        const epoch = Math.round(first + ((event.offsetX - box.left) / (width - box.left - box.right)) * (last - first));
        if (epoch !== state.epoch) {
          state.epoch = epoch;
          draw();
        }
      };
      said.replaceChildren(make("span", { class: "at" }, `Epoch ${at}`),
        ...read.slice(0, 8).map(([line, point]) => make("span", {}, `${line.name} `, make("b", {}, String(Number(point[1].toPrecision(4)))))),
        read.length > 8 ? make("span", {}, `and ${read.length - 8} more`) : "");
      const old = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.system : null;
      legend.replaceChildren(...names.map(name => {
        const swatch = make("svg:svg", { width: 22, height: 8, "aria-hidden": "true" },
          make("svg:path", { d: "M0 4h22", stroke: looks[name].colour, "stroke-width": 3, "stroke-dasharray": looks[name].dash }));
        const press = () => {
          if (!state.hidden.delete(name)) state.hidden.add(name);
          draw();
        };
        return make("button", { type: "button", "aria-pressed": String(!state.hidden.has(name)), "data-system": name, onclick: press }, swatch, name);
      }));
      if (old) $(`[data-system="${CSS.escape(old)}"]`, legend)?.focus();
    }

    place.append(filters, svg, slider, said, legend);
    choose();
    let width = place.clientWidth;
    new ResizeObserver(() => {
      if (place.clientWidth !== width) {
        width = place.clientWidth;
        draw();
      }
    }).observe(place);
  });
})();
