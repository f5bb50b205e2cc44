/* The command of the first clip. */
async function scenario() {
    all(".card")[0].click();
    done(text(".command") + "\n");
}
