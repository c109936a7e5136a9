// Counts what the formulas are about: sentences, words, letters, syllables. For English; decides nothing.

const WORD = /[A-Za-zÀ-ÖØ-öø-ÿ]+(?:['’-][A-Za-zÀ-ÖØ-öø-ÿ]+)*/g;
const VOWELS = /[aeiouyà-æè-ïò-öø-üýÿ]+/g;
// A full stop after one of these ends no sentence.
const ABBREVIATION = /(?:^|[\s(])(?:[A-Za-z]|dr|mr|mrs|ms|prof|st|jr|sr|vs|etc|no|fig|e\.g|i\.e|approx|inc|ltd)\.$/i;
// Longest word that is looked at; more is no word.
const LONGEST = 64;

/** The syllables of an English word, by its groups of vowels; at least one. */
export function syllablesOf(word) {
  let total = 0;
  for (const part of word.slice(0, LONGEST).toLowerCase().split(/['’-]/)) {
    const groups = part.match(VOWELS)?.length ?? 0;
    // A silent e at the end (but not in "table"), and a silent -es or -ed.
    const isSilent = /[^aeiouyl]e$/.test(part) || /[aeiouy]le$/.test(part) || /[^aeiouytdscxz]e[ds]$/.test(part);
    if (part.length > 1 || groups > 0) total += Math.max(groups - (isSilent && groups > 1 ? 1 : 0), groups === 0 ? 0 : 1);
  }
  return Math.max(total, 1);
}

/** The sentences of a text that hold a word; a line that is followed by an empty one is one, too. */
export function sentencesOf(text) {
  const sentences = [];
  let begun = '';
  for (const piece of text.split(/(?<=[.!?…]["'”’)\]]*)\s+|\n\s*\n/)) {
    begun = begun === '' ? piece : `${begun} ${piece}`;
    // Only its end decides; an abbreviation goes on.
    if (ABBREVIATION.test(begun.slice(-12))) continue;
    sentences.push(begun);
    begun = '';
  }
  if (begun !== '') sentences.push(begun);
  return sentences.filter((sentence) => sentence.search(WORD) >= 0);
}

/** Counts a text. */
export function count(text) {
  const words = text.match(WORD) ?? [];
  const totals = { sentences: sentencesOf(text).length, words: words.length, letters: 0, syllables: 0, complex: 0 };
  for (const word of words) {
    const syllables = syllablesOf(word);
    totals.letters += word.replace(/['’-]/g, '').length;
    totals.syllables += syllables;
    if (syllables >= 3) totals.complex += 1;
  }
  return totals;
}
