/* The command of the clip whose name and prompt are hostile. */
async function scenario() {
    card("\"><b>").click();
    done(text(".command") + "\n");
}
