/* Scores and marks in words; what they are is worked out by the program (review/scores.h). */

const SCORES = [
    {key: "flicker", digits: 1, high: true,
     title: "change that comes and goes along the motion, in levels of 255: low is calm"},
    {key: "repetition", digits: 2, high: true,
     title: "how much the picture repeats itself at the model's own size, 0 to 1: low is good; - where " +
         "the clip is not larger than the model's own size"},
    {key: "sharpness", digits: 0, high: false,
     title: "deviation of the Laplacian, in levels: low is blurred, noise is high"},
    {key: "motion", digits: 1, high: false,
     title: "mean length of motion, in percent of the longer side a frame: 0 stands still"},
];

const MARKS = {
    black: "holds black frames",
    flat: "holds frames of one colour",
    frozen: "at least half of its frames repeat the one before",
    flicker: "flickers most",
    repetition: "repeats itself",
    blur: "is the least sharp",
    still: "moves least",
};

for (const score of SCORES) {
    const values = clips.map(c => c.scores[score.key]).filter(v => v !== null);
    score.low = Math.min(...values, 0);
    score.top = Math.max(...values, score.low + 1e-6);
}

function scoreText(score, clip) {
    const v = clip.scores[score.key];
    return v === null ? "-" : v.toFixed(score.digits);
}

/* 0..1 on the axis that all clips share. */
function scorePlace(score, clip) {
    return (clip.scores[score.key] - score.low) / (score.top - score.low);
}

function blankText(clip) {
    const s = clip.scores, parts = [];
    if (s.black_frames)
        parts.push(s.black_frames + " black");
    if (s.flat_frames > s.black_frames)
        parts.push(s.flat_frames - s.black_frames + " of one colour");
    if (s.frozen_frames)
        parts.push(s.frozen_frames + " like the one before");
    return parts.length ? parts.join(", ") : "none blank or frozen";
}
