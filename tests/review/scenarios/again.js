/* The browser has been closed: the opinions are still there. */
async function scenario() {
    check(all(".card.pick").length === 1 && all(".card.reject").length === 1, "verdicts are lost");
    card("black").click();
    check(page.document.getElementById("note").value === "too dark </script> \u65e5\u672c", "the note is lost");
    done(await exported());
}
