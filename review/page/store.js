"use strict";
/* The clips as the program wrote them, and what a person thinks of them, which the browser keeps. */

const DATA = JSON.parse(document.getElementById("data").textContent);
const clips = DATA.clips;
clips.forEach((clip, index) => { clip.index = index; });

const STORE_KEY = "vidilate review " + DATA.folder;
const NOTHING = Object.freeze({verdict: null, rank: null, note: ""});
let opinions = new Map(); /* by clipKey: {verdict: "pick", "reject" or null; rank: 1.. or null; note} */
let storeFails = false;

/* A clip that is rendered again under its name has another id: an opinion about the old one goes. */
function clipKey(clip) {
    return clip.file + "|" + clip.id;
}

function readStore() {
    try {
        opinions = new Map(Object.entries(JSON.parse(localStorage.getItem(STORE_KEY) || "{}")));
    } catch (error) {
        storeFails = true;
    }
}

function writeStore() {
    try {
        localStorage.setItem(STORE_KEY, JSON.stringify(Object.fromEntries(opinions)));
        storeFails = false;
    } catch (error) {
        if (!storeFails)
            toast("this browser keeps nothing for this page: export before closing it");
        storeFails = true;
    }
}

function opinionOf(clip) {
    return opinions.get(clipKey(clip)) || NOTHING;
}

/* `change` has some of verdict, rank and note. */
function setOpinion(clip, change) {
    const next = {...opinionOf(clip), ...change};
    if (next.verdict === null && next.rank === null && next.note === "")
        opinions.delete(clipKey(clip));
    else
        opinions.set(clipKey(clip), next);
    writeStore();
    showOpinions();
}

/* Another tab with this page. */
addEventListener("storage", event => {
    if (event.key === STORE_KEY) {
        readStore();
        showOpinions();
    }
});
