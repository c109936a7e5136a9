// The published formulas of readability, as functions of counts; each says where it is from. Nothing here reads text.

/** Flesch reading ease (Flesch 1948): higher is easier, about 0 to 100. */
export const fleschReadingEase = ({ words, sentences, syllables }) =>
  206.835 - 1.015 * (words / sentences) - 84.6 * (syllables / words);

/** Flesch–Kincaid grade level (Kincaid et al. 1975): years of school. */
export const fleschKincaidGrade = ({ words, sentences, syllables }) =>
  0.39 * (words / sentences) + 11.8 * (syllables / words) - 15.59;

/** Gunning fog index (Gunning 1952): years of school; `complex` words have three syllables or more. */
export const gunningFog = ({ words, sentences, complex }) => 0.4 * (words / sentences + 100 * (complex / words));

/** SMOG grade (McLaughlin 1969): years of school; made for 30 sentences, scaled to them. */
export const smog = ({ sentences, complex }) => 1.043 * Math.sqrt(complex * (30 / sentences)) + 3.1291;

/** Coleman–Liau index (Coleman and Liau 1975): years of school, by letters and sentences per 100 words. */
export const colemanLiau = ({ words, sentences, letters }) =>
  0.0588 * ((100 * letters) / words) - 0.296 * ((100 * sentences) / words) - 15.8;

/** Automated readability index (Smith and Senter 1967): years of school, by characters. */
export const automatedReadability = ({ words, sentences, letters }) =>
  4.71 * (letters / words) + 0.5 * (words / sentences) - 21.43;
