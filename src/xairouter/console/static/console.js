// Copy buttons appear only where they work; everything else needs no script.
for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}

// Live rows: fetched every two seconds while the page is looked at. Without script there is a link.
for (const rows of document.querySelectorAll("[data-live]")) {
  setInterval(async () => {
    if (document.hidden) return;
    const answer = await fetch(rows.dataset.live, { redirect: "error" }).catch(() => null);
    if (answer && answer.ok) rows.innerHTML = await answer.text();
  }, 2000);
}
