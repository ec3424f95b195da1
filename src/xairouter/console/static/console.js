// What pages gain where scripts run: copying, charts, sorting, the command palette, and words about
// a server that is away. Everything else works without. No state is kept in the browser.
"use strict";

const words = document.body.dataset;
const $ = (id) => document.getElementById(id);

function ready(root) {
  copying(root);
  charts(root);
  tables(root);
  provider(root);
  if (root === document || root.id === "main") secrets(document);
}

// Copy and download: the buttons appear only where they work.
function copying(root) {
  for (const button of root.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard || button.dataset.wired) continue;
    button.dataset.wired = "1";
    button.hidden = false;
    const label = button.textContent;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText($(button.dataset.copy).textContent);
      button.textContent = words.copied;
      setTimeout(() => (button.textContent = label), 2000);
    });
  }
  for (const button of root.querySelectorAll("[data-download]")) {
    if (button.dataset.wired) continue;
    button.dataset.wired = "1";
    button.hidden = false;
    button.addEventListener("click", () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([$(button.dataset.download).textContent + "\n"]));
      link.download = button.dataset.file;
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }
}

// The page of the chosen provider where keys are made and revoked, one click away.
function provider(root) {
  const select = root.querySelector("#provider");
  if (!select || select.dataset.wired) return;
  select.dataset.wired = "1";
  const link = $("provider-page");
  const follow = () => {
    const url = select.selectedOptions[0]?.dataset.url;
    link.hidden = !url;
    if (url) link.href = url;
  };
  select.addEventListener("change", follow);
  follow();
}

// A page with secrets is not left by accident.
let keeping = null;
function secrets(root) {
  keeping = root.querySelector("form[data-keep]");
  keeping?.addEventListener("submit", () => (keeping = null));
}
addEventListener("beforeunload", (event) => {
  if (keeping) event.preventDefault();
});

// Tables: sort by a column, walk by arrow keys, copy as CSV.
const amount = (cell) => {
  const known = cell.querySelector("data, time, meter");
  if (known) return known.dateTime ? Date.parse(known.dateTime) : Number(known.value);
  const text = cell.textContent.trim();
  return text === "—" ? -Infinity : text.toLowerCase();
};

function tables(root) {
  for (const table of root.querySelectorAll("table[data-sort]")) {
    if (table.dataset.wired) continue;
    table.dataset.wired = "1";
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows].map((row) => [amount(row.cells[column]), row]);
        rows.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1));
        table.tBodies[0].append(...rows.map(([, row]) => row));
      });
    });
  }
  for (const button of root.querySelectorAll("[data-csv]")) {
    if (!navigator.clipboard || button.dataset.wired) continue;
    button.dataset.wired = "1";
    button.hidden = false;
    const label = button.textContent;
    button.addEventListener("click", async () => {
      const cell = (one) => {
        const known = one.querySelector("data, time");
        const text = known ? known.dateTime || known.value : one.textContent.trim().replace(/\s+/g, " ");
        const safe = /^[=+\-@]/.test(text) && Number.isNaN(Number(text)) ? "'" + text : text;
        return /[",\n]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
      };
      const lines = [...$(button.dataset.csv).rows].map((row) => [...row.cells].map(cell).join(","));
      await navigator.clipboard.writeText(lines.join("\n"));
      button.textContent = words.copied;
      setTimeout(() => (button.textContent = label), 2000);
    });
  }
}

document.addEventListener("keydown", (event) => {
  const row = event.target.closest?.("tbody tr");
  if (row && (event.key === "ArrowDown" || event.key === "ArrowUp") && event.target.matches("a")) {
    let next = row;
    do next = event.key === "ArrowDown" ? next.nextElementSibling : next.previousElementSibling;
    while (next && !next.querySelector("a"));
    if (next) {
      next.querySelector("a").focus();
      event.preventDefault();
    }
  }
});

// Charts are drawn from the table behind them; its values are the only ones there are.
const probe = document.createElement("i");
const colour = (name) => {
  // What a property comes to in this theme, as a canvas understands it.
  document.body.append(probe);
  probe.style.color = `var(${name})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
};

function charts(root) {
  if (!window.uPlot) return;
  for (const place of root.querySelectorAll("[data-chart]")) {
    const table = $(place.dataset.chart);
    const rows = [...table.tBodies[0].rows];
    if (place.dataset.wired || !rows.length) continue;
    place.dataset.wired = "1";
    place.hidden = false;
    const heads = [...table.tHead.rows[0].cells].slice(1).map((cell) => cell.textContent.trim());
    const times = rows.map((row) => Date.parse(row.cells[0].querySelector("time").dateTime) / 1000);
    const values = heads.map((_, at) =>
      rows.map((row) => Number(row.cells[at + 1].querySelector("data")?.value ?? NaN) || 0));
    const shown = heads.map((_, at) => rows.map((row) => row.cells[at + 1].textContent.trim()));
    const names = rows.map((row) => row.cells[0].textContent.trim());
    const marks = [...document.querySelectorAll(`[data-marks="${place.dataset.chart}"] time`)].map(
      (time) => Date.parse(time.dateTime) / 1000);
    const legend = $(place.dataset.chart + "-legend");
    legend.hidden = false;
    const tell = (index) => {
      legend.replaceChildren();
      if (index != null) {
        const when = document.createElement("b");
        when.textContent = names[index];
        legend.append(when);
      }
      heads.forEach((head, at) => {
        const part = document.createElement("span");
        const key = document.createElement("i");
        key.className = "k" + (at + 1);
        part.append(key, head + " ");
        if (index != null) {
          const value = document.createElement("b");
          value.textContent = shown[at][index];
          part.append(value);
        }
        legend.append(part);
      });
    };
    tell(null);
    const short = (value) => {
      for (const [size, unit] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]])
        if (Math.abs(value) >= size) return Number((value / size).toPrecision(3)) + unit;
      return String(Number(value.toPrecision(3)));
    };
    const axis = { stroke: colour("--ink-soft"), font: "12px Inter", grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const bars = uPlot.paths.bars({ size: [0.7, 48], align: 0 });
    const gap = times.length > 1 ? times[1] - times[0] : 86400;
    const plot = new uPlot({
      width: place.clientWidth,
      height: 200,
      cursor: { y: false, points: { show: false } },
      legend: { show: false },
      scales: {
        x: { time: true, range: [times[0] - gap / 2, times.at(-1) + gap / 2] },
        y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] },
      },
      axes: [
        {
          ...axis,
          size: 28,
          splits: () => spread(times, place.clientWidth),
          values: (_, ticks) => ticks.map((at) => names[times.indexOf(at)] ?? ""),
        },
        { ...axis, size: 56, values: (_, ticks) => ticks.map((at) => place.dataset.unit + short(at)) },
      ],
      series: [{}, ...heads.map((head, at) => ({
        label: head,
        stroke: colour(`--c${at + 1}`),
        fill: at === 0 ? colour(`--c${at + 1}`) : undefined,
        width: at === 0 ? 0 : 2,
        paths: at === 0 ? bars : undefined,
        points: { show: at > 0 && times.length < 40, size: 5 },
      }))],
      hooks: {
        setCursor: [(self) => tell(self.cursor.idx)],
        draw: [(self) => {
          for (const at of marks) {
            const x = Math.round(self.valToPos(at, "x", true));
            if (x < self.bbox.left || x > self.bbox.left + self.bbox.width) continue;
            self.ctx.save();
            self.ctx.strokeStyle = colour("--warn");
            self.ctx.setLineDash([4, 4]);
            self.ctx.beginPath();
            self.ctx.moveTo(x, self.bbox.top);
            self.ctx.lineTo(x, self.bbox.top + self.bbox.height);
            self.ctx.stroke();
            self.ctx.restore();
          }
        }],
      },
    }, [times, ...values], place);
    new ResizeObserver(() => {
      if (place.clientWidth) plot.setSize({ width: place.clientWidth, height: 200 });
    }).observe(place);
    document.querySelector(`details[data-table="${place.dataset.chart}"]`).open = false;
  }
}

function spread(times, width) {
  const most = Math.max(2, Math.floor(width / 96));
  const step = Math.max(1, Math.ceil(times.length / most));
  return times.filter((_, at) => at % step === 0);
}

// The command palette: Ctrl or ⌘ with K.
const palette = $("palette");
function openPalette() {
  palette.showModal();
  $("palette-q").select();
  window.htmx?.trigger("#palette-q", "palette");
}
if (palette) {
  $("find").addEventListener("click", (event) => {
    event.preventDefault();
    openPalette();
  });
  palette.addEventListener("click", (event) => event.target === palette && palette.close());
  palette.addEventListener("keydown", (event) => {
    const links = [...palette.querySelectorAll(".found a")];
    const at = links.indexOf(document.activeElement);
    if (event.key === "ArrowDown") links[Math.min(at + 1, links.length - 1)]?.focus();
    else if (event.key === "ArrowUp") (links[at - 1] ?? $("palette-q")).focus();
    else if (event.key === "Enter" && at < 0 && links.length) links[0].click();
    else return;
    event.preventDefault();
  });
}
addEventListener("keydown", (event) => {
  if (palette && (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    if (!palette.open) openPalette();
  }
});

// A server that is away, a session that ended: say so, and leave everything typed where it is.
const banner = $("banner");
function tell(text, link) {
  banner.replaceChildren(text);
  if (link) banner.append(link);
  banner.hidden = false;
}
document.addEventListener("htmx:sendError", () => tell(words.away));
document.addEventListener("htmx:timeout", () => tell(words.away));
document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status === 401) {
    const link = document.createElement("a");
    link.href = "/console/sign-in";
    link.target = "_blank";
    link.rel = "noopener";
    link.textContent = "→";
    tell(words.ended + " ", link);
  } else tell(words.away);
});
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful) banner.hidden = true;
});
document.addEventListener("htmx:load", (event) => ready(event.detail.elt));
// A boosted page has a new head line; whoever listens hears it.
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.boosted) $("main")?.focus({ preventScroll: true });
});
ready(document);
