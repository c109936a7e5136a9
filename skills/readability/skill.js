// How hard an English text is to read: six published formulas over counts of its sentences, words and syllables.
//
// The same text gives the same numbers on every machine. The formulas are in formulas.js, the counting in text.js.

import { Failure } from './chimera-skill.js';
import * as formulas from './formulas.js';
import { count } from './text.js';

/** Reading ease, from hardest to easiest: Flesch's own table of 1949. */
const LEVELS = [[30, 'very difficult'], [50, 'difficult'], [60, 'fairly difficult'], [70, 'standard'], [80, 'fairly easy'], [90, 'easy']];
/** Formulas were made for samples of about this many words. */
const SAMPLE = 100;

const rounded = (value) => Math.round(value * 100) / 100;

/** Measures a text. */
export function run(input, ctx) {
  const counts = count(input.text);
  if (counts.words === 0) {
    throw new Failure('invalid-input', 'no-words', 'The text has no words in Latin letters to measure.');
  }
  ctx.log(`${counts.words} words in ${counts.sentences} sentences`, 'debug');

  const ease = rounded(formulas.fleschReadingEase(counts));
  const grades = {
    flesch_kincaid: rounded(formulas.fleschKincaidGrade(counts)),
    gunning_fog: rounded(formulas.gunningFog(counts)),
    smog: rounded(formulas.smog(counts)),
    coleman_liau: rounded(formulas.colemanLiau(counts)),
    automated_readability: rounded(formulas.automatedReadability(counts)),
  };
  const grade = median(Object.values(grades));
  const level = LEVELS.find(([below]) => ease < below)?.[1] ?? 'very easy';
  const output = { ...counts, reading_ease: ease, level, grades, grade };
  if (input.max_grade !== undefined) output.within = grade <= input.max_grade;
  return { output, ...judged(counts, Object.values(grades)) };
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

/** Short samples and formulas that disagree make a poor measure. */
function judged({ words, sentences }, grades) {
  const spread = rounded(Math.max(...grades) - Math.min(...grades));
  const amount = Math.min(1, words / SAMPLE);
  const agreement = Math.max(0, 1 - spread / 12);
  return {
    confidence: rounded(0.45 + 0.3 * amount + 0.2 * agreement),
    evidence: [`${words} words in ${sentences} sentences`, `the formulas lie ${spread} years of school apart`],
  };
}
