/* All videos that can be seen, played in step: one clock, which each follows by small changes of its
 * speed. A clip that is shorter waits on its last frame until the longest has ended. */

const player = {playing: true, rate: 1, time: 0, length: 1, fps: 8, restarting: false};
const RATES = [0.1, 0.25, 0.5, 1, 2, 4];
const VIDEOS_MAX = 64; /* browsers allow some 75 */
const wanted = new Map(); /* video element -> clip: those in sight */
const playing = new Map(); /* the same: those of them that have a decoder */
const addresses = new Map(); /* clip index -> {url, users} */

function clipSeconds(clip) {
    return clip.frames / clip.fps;
}

/* Clips inside the page become a blob only while they are seen. */
function takeAddress(clip) {
    if (clip.src !== undefined)
        return clip.src;
    let entry = addresses.get(clip.index);
    if (!entry) {
        const bytes = Uint8Array.from(atob($("clip-" + clip.index).textContent),
                                      c => c.charCodeAt(0));
        entry = {url: URL.createObjectURL(new Blob([bytes], {type: "video/mp4"})), users: 0};
        addresses.set(clip.index, entry);
    }
    entry.users++;
    return entry.url;
}

function giveAddress(clip) {
    const entry = addresses.get(clip.index);
    if (entry && --entry.users === 0) {
        URL.revokeObjectURL(entry.url);
        addresses.delete(clip.index);
    }
}

function measureLength() {
    player.length = 0;
    player.fps = 0;
    for (const clip of playing.values()) {
        player.length = Math.max(player.length, clipSeconds(clip));
        player.fps = Math.max(player.fps, clip.fps);
    }
    player.length = player.length || 1;
    player.fps = player.fps || 8;
    $("scrub").max = Math.max(1, frameCount() - 1);
}

function frameCount() {
    return Math.max(1, Math.round(player.length * player.fps));
}

function frameIndex() {
    return Math.min(frameCount() - 1, Math.floor(player.time * player.fps + 1e-6));
}

function wantVideo(video, clip) {
    if (wanted.get(video) === clip)
        return;
    dropVideo(video);
    wanted.set(video, clip);
    attachWanted();
}

function dropVideo(video) {
    wanted.delete(video);
    if (playing.has(video)) {
        detach(video);
        attachWanted();
    }
}

function attachWanted() {
    for (const [video, clip] of wanted)
        if (!playing.has(video) && playing.size < VIDEOS_MAX)
            attach(video, clip);
    measureLength();
}

function attach(video, clip) {
    playing.set(video, clip);
    video.muted = true;
    video.playsInline = true;
    video.preload = "auto";
    video.onloadeddata = () => seekVideo(video);
    video.onerror = () => video.parentElement && video.parentElement.classList.add("broken");
    video.src = takeAddress(clip);
}

function detach(video) {
    giveAddress(playing.get(video));
    playing.delete(video);
    video.onloadeddata = video.onerror = null;
    video.pause();
    video.removeAttribute("src");
    video.load();
}

/* The middle of the frame that the clock shows: never between two. */
function seekVideo(video) {
    const clip = playing.get(video);
    const index = Math.min(clip.frames - 1, Math.floor(player.time * clip.fps + 1e-6));
    video.currentTime = (index + 0.5) / clip.fps;
}

function seekAll(time) {
    player.time = time;
    for (const video of playing.keys())
        seekVideo(video);
}

function pauseAll() {
    player.playing = false;
    for (const video of playing.keys())
        video.pause();
    seekAll(player.time);
}

function togglePlay() {
    if (player.playing)
        pauseAll();
    else
        player.playing = true;
}

function stepFrames(count) {
    const next = (frameIndex() + count + frameCount()) % frameCount();
    player.time = (next + 0.5) / player.fps;
    pauseAll();
}

function changeRate(direction) {
    const at = RATES.indexOf(player.rate) + direction;
    player.rate = RATES[Math.max(0, Math.min(RATES.length - 1, at))];
}

/* From the first frame, once all have reached it; a slow one is not waited for longer than half a
 * second. */
function restart(now) {
    if (!player.restarting) {
        player.restarting = now;
        player.time = 0;
        for (const video of playing.keys()) {
            video.pause();
            video.currentTime = 0;
        }
    }
    const waits = [...playing.keys()].some(v => v.readyState >= 1 && (v.seeking || v.readyState < 2));
    if (!waits || now - player.restarting > 500)
        player.restarting = false;
}

function follow(video, clip) {
    const end = clipSeconds(clip);
    if (video.readyState < 2 || video.seeking)
        return;
    if (player.time >= end) {
        video.pause();
        return;
    }
    const ahead = video.currentTime - player.time;
    if (Math.abs(ahead) > 0.25)
        video.currentTime = player.time;
    video.playbackRate = player.rate *
        (Math.abs(ahead) > 0.015 ? 1 - Math.max(-0.3, Math.min(0.3, 2 * ahead)) : 1);
    if (video.paused)
        video.play().catch(() => {});
}

let lastTick = 0;
function tick(now) {
    const passed = Math.min(100, now - lastTick) / 1000;
    lastTick = now;
    if (player.playing && playing.size > 0) {
        if (!player.restarting)
            player.time += passed * player.rate;
        if (player.restarting || player.time >= player.length)
            restart(now);
        if (!player.restarting)
            playing.forEach((clip, video) => follow(video, clip));
    }
    showTransport();
    requestAnimationFrame(tick);
}

function showTransport() {
    const set = (id, text) => {
        if ($(id).textContent !== text)
            $(id).textContent = text;
    };
    set("play", player.playing ? "\u275a\u275a" : "\u25b6");
    set("frame", frameIndex() + 1 + " / " + frameCount());
    set("rate", player.rate + "\u00d7");
    $("scrub").value = frameIndex();
}

document.addEventListener("visibilitychange", () => {
    if (document.hidden)
        playing.forEach((clip, video) => video.pause());
});
