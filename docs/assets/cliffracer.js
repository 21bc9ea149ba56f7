// The tests behind a promise, [file.py::test], are for whoever doubts it: small, below the sentence.
for (const place of document.querySelectorAll(".md-typeset :is(li, td, p)")) {
  for (const node of [...place.childNodes]) {
    const found = node.nodeType === Node.TEXT_NODE && node.data.match(/^([^]*?)\s*((?:\[[\w/]+\.py::\w+\][,\s]*)+)([^]*)$/);
    if (!found) continue;
    const tests = document.createElement("small");
    tests.className = "tests";
    tests.textContent = found[2].replaceAll(/[[\]]/g, "").trim();
    node.replaceWith(found[1], tests, found[3]);
  }
}
