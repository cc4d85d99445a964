// Galleries: one card per query with its best answers, true ones marked; a card opens large, with players, and arrow
// keys lead from one to the next.

(function galleries() {
  const place = $("#galleries");
  if (!place) return;

  whenNear(place, () => {
    const data = content("galleries");
    const state = { set: 0, run: 0, aspect: "" };
    const filters = make("div", { class: "filters" });
    const cards = make("div", { class: "queries" });
    const dialog = make("dialog", { class: "large", "aria-labelledby": "large-title" });
    let open = 0;

    const queries = () => data[state.set].runs[state.run].directions[state.aspect] || [];
    const item = id => data[state.set].items[id];
    const kind = rank => (rank === 1 ? "good" : rank <= 10 ? "near" : "far");
    const called = { audio: "sound" };

    // An item as a thumbnail or a text; `large` ones play.
    function shown(id, large) {
      const one = item(id);
      const name = `${called[one.modality] || one.modality} ${id}`;
      if (one.text !== undefined) return make("span", { class: "text" }, one.text);
      if (large && one.player && one.modality === "video") {
        return make("video", { src: one.player, poster: one.picture, controls: true, loop: true, muted: true, playsinline: true, "aria-label": name });
      }
      const picture = one.picture
        ? make("img", { src: one.picture, alt: one.label ? `${name}, ${one.label}` : name, class: one.modality })
        : make("span", { class: "lost" }, name);
      if (large && one.player) return make("span", { class: "heard" }, picture, make("audio", { src: one.player, controls: true, "aria-label": name }));
      return one.player ? make("span", { class: "plays" }, picture) : picture;
    }

    function answer([id, right, score], number, large) {
      const mark = right ? make("span", { class: "tick" }, "✓", make("span", { class: "visually-hidden" }, " true match")) : null;
      return make("li", { class: right ? "true" : null },
        make("span", { class: "place" }, String(number)),
        shown(id, large),
        make("span", { class: "mark" }, mark, large && score !== null ? make("span", { class: "score" }, ` ${score}`) : null,
          large && item(id).label ? make("span", { class: "label" }, ` ${item(id).label}`) : null));
    }

    function answers(query, large) {
      const texts = query.top.length && item(query.top[0][0]).text !== undefined;
      return make("ol", { class: `answers ${texts ? "texts" : "pictures"}` },
        query.top.map((one, i) => answer(one, i + 1, large)),
        query.truth ? make("li", { class: "truth" },
          make("span", { class: "place" }, query.rank.toLocaleString("en")), shown(query.truth, large), make("span", { class: "mark" }, "a match")) : null);
    }

    function card(query, i) {
      return make("article", { class: "query" },
        make("header", {},
          make("div", { class: "asked" }, shown(query.query, false)),
          make("span", { class: `rank ${kind(query.rank)}` }, `rank ${query.rank.toLocaleString("en")}`)),
        answers(query, false),
        make("button", { type: "button", class: "open", onclick: () => show(i), "aria-label": `Open query ${i + 1} of ${queries().length}, rank ${query.rank}` }, "Open"));
    }

    function show(i) {
      open = (i + queries().length) % queries().length;
      const query = queries()[open];
      const run = data[state.set].runs[state.run].run;
      const step = by => () => show(open + by);
      const focused = document.activeElement.dataset.step;
      dialog.replaceChildren(
        make("header", {},
          make("h3", { id: "large-title" }, `Query ${open + 1} of ${queries().length}`, make("small", {}, ` ${spoken(state.aspect)}, ${run}`)),
          make("span", { class: `rank ${kind(query.rank)}` }, `rank ${query.rank.toLocaleString("en")}`)),
        make("div", { class: "asked" }, shown(query.query, true), item(query.query).label ? make("p", { class: "label" }, item(query.query).label) : null),
        answers(query, true),
        make("footer", {},
          make("button", { type: "button", "data-step": "previous", onclick: step(-1) }, "Previous"),
          make("button", { type: "button", "data-step": "next", onclick: step(1) }, "Next"),
          make("button", { type: "button", class: "close", onclick: () => dialog.close() }, "Close")));
      if (!dialog.open) dialog.showModal();
      $(`[data-step="${focused || "next"}"]`, dialog).focus();
    }
    dialog.addEventListener("keydown", event => {
      if (event.target.closest("audio, video")) return;
      if (event.key === "ArrowRight") show(open + 1);
      else if (event.key === "ArrowLeft") show(open - 1);
    });
    dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("close", () => {
      dialog.replaceChildren(); // stops what plays
      $$(".open", cards)[open]?.focus();
    });

    function choose() {
      const set = data[state.set];
      if (!set.runs[state.run]) state.run = 0;
      const directions = Object.keys(set.runs[state.run].directions);
      if (!directions.includes(state.aspect)) state.aspect = directions[0];
      const change = (key, of) => value => { state[key] = of(value); choose(); };
      filters.replaceChildren(
        choice("Data set", data.map((entry, i) => [String(i), entry.title]), String(state.set), change("set", Number)),
        choice("Run", set.runs.map((entry, i) => [String(i), entry.run]), String(state.run), change("run", Number)),
        choice("Direction", directions.map(name => [name, spoken(name)]), state.aspect, change("aspect", String)));
      cards.replaceChildren(...queries().map(card));
    }

    place.append(filters, cards, dialog);
    choose();
  });
})();
